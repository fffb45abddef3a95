//! Reads a mapping key by key and collects what is wrong with it.

use std::collections::BTreeMap;

use crate::diagnostic::{Faults, quote};
use crate::value::{Complaint, describe};
use crate::yaml::{Kind, Node, Span, Spanned};

/// A mapping that is being read: what has not been asked for when it is [finished](Fields::finish) is unknown.
pub(crate) struct Fields<'n> {
    /// Where a missing key is reported.
    pub(crate) span: Span,
    /// What the mapping describes, for messages: `the tenant`, `network`.
    what: &'static str,
    entries: Vec<Entry<'n>>,
    known: Vec<&'static str>,
}

struct Entry<'n> {
    /// With underscores, however it was written.
    name: String,
    key: Span,
    value: &'n Node,
    taken: bool,
}

impl<'n> Fields<'n> {
    /// Reports whatever is not a mapping, and keys that come twice.
    pub(crate) fn open(faults: &mut Faults<'_>, what: &'static str, node: &'n Node) -> Option<Self> {
        let Kind::Mapping(pairs) = &node.kind else {
            faults.error_with_help(
                node.span,
                format!("{what}: expected a mapping, found {}", describe(node)),
                "write it as `key: value` lines",
            );
            return None;
        };
        let mut entries: Vec<Entry<'n>> = Vec::with_capacity(pairs.len());
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        for (key, value) in pairs {
            let Kind::Scalar { text, .. } = &key.kind else {
                faults.error(key.span, format!("a key must be a word, found {}", describe(key)));
                continue;
            };
            let name = normalised(text);
            if let Some(first) = lines.get(&name) {
                let message = format!("the key {} comes twice; it is on line {first} already", quote(text));
                faults.error_with_help(key.span, message, "remove one of the two");
                continue;
            }
            lines.insert(name.clone(), key.span.line);
            entries.push(Entry { name, key: key.span, value, taken: false });
        }
        // A missing key is reported where the mapping begins; a `{` may stand far from its first key.
        Some(Self { span: Span { width: 1, ..node.span }, what, entries, known: Vec::new() })
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }

    /// Takes a key that may have several names, the first of which is the one to be suggested.
    pub(crate) fn take(
        &mut self,
        faults: &mut Faults<'_>,
        names: &[&'static str],
    ) -> Option<Spanned<&'n Node>> {
        self.known.extend(names);
        let mut found: Option<Spanned<&'n Node>> = None;
        for entry in self.entries.iter_mut().filter(|entry| names.contains(&entry.name.as_str())) {
            entry.taken = true;
            if let Some(first) = &found {
                let message = format!("`{}` says the same as line {}", entry.name, first.span.line);
                faults.error_with_help(entry.key, message, "remove one of the two");
            } else {
                found = Some(Spanned::new(entry.value, entry.key));
            }
        }
        #[cfg(test)]
        if found.is_none() {
            faults.absent.push(format!("{}: {}", self.what, names[0]));
        }
        found
    }

    /// Reads a key that must be there. `None` has been reported.
    pub(crate) fn required<T>(
        &mut self,
        faults: &mut Faults<'_>,
        names: &[&'static str],
        read: impl Fn(&Node) -> Result<T, Complaint>,
    ) -> Option<Spanned<T>> {
        let found = self.take(faults, names);
        if found.is_none() {
            self.report_missing(faults, names[0]);
        }
        read_value(faults, names[0], found?, read)
    }

    /// Reads a key that may be left out. `None` has been reported; `Some(None)` is left out.
    #[expect(clippy::option_option, reason = "a value that was reported is not a value that was left out")]
    pub(crate) fn optional<T>(
        &mut self,
        faults: &mut Faults<'_>,
        names: &[&'static str],
        read: impl Fn(&Node) -> Result<T, Complaint>,
    ) -> Option<Option<Spanned<T>>> {
        match self.take(faults, names) {
            Some(found) => read_value(faults, names[0], found, read).map(Some),
            None => Some(None),
        }
    }

    /// Reads a key that has a default. `None` has been reported.
    pub(crate) fn defaulted<T>(
        &mut self,
        faults: &mut Faults<'_>,
        names: &[&'static str],
        default: T,
        read: impl Fn(&Node) -> Result<T, Complaint>,
    ) -> Option<T> {
        match self.optional(faults, names, read)? {
            Some(found) => Some(found.value),
            None => Some(default),
        }
    }

    /// Opens a mapping below a key that may be left out; left out it is `None`, and so is what was reported.
    pub(crate) fn section(&mut self, faults: &mut Faults<'_>, name: &'static str) -> Section<'n> {
        match self.take(faults, &[name]) {
            None => Section::Absent,
            Some(found) => match Fields::open(faults, name, found.value) {
                Some(fields) => Section::Open(fields),
                None => Section::Refused,
            },
        }
    }

    /// The items of a list that must be there, and its key's place. `None` has been reported.
    pub(crate) fn required_list(
        &mut self,
        faults: &mut Faults<'_>,
        name: &'static str,
    ) -> Option<Spanned<&'n [Node]>> {
        let list = self.optional_list(faults, name)?;
        if list.is_none() {
            self.report_missing(faults, name);
        }
        list
    }

    /// The items of a list, and its key's place. `None` has been reported; `Some(None)` is left out.
    #[expect(clippy::option_option, reason = "a value that was reported is not a value that was left out")]
    pub(crate) fn optional_list(
        &mut self,
        faults: &mut Faults<'_>,
        name: &'static str,
    ) -> Option<Option<Spanned<&'n [Node]>>> {
        let Some(found) = self.take(faults, &[name]) else { return Some(None) };
        if let Kind::Sequence(items) = &found.value.kind {
            return Some(Some(Spanned::new(items.as_slice(), found.span)));
        }
        let message = format!("`{name}`: expected a list, found {}", describe(found.value));
        let span = if found.value.is_null() { found.span } else { found.value.span };
        faults.error_with_help(span, message, "begin each item with `- `");
        None
    }

    pub(crate) fn report_missing(&self, faults: &mut Faults<'_>, name: &str) {
        let message = format!("{}: the key `{name}` is missing", self.what);
        faults.error_with_help(self.span, message, format!("add a line `{name}: …`"));
    }

    /// Reports every key that nobody asked for. `elsewhere` may know more about such a key.
    pub(crate) fn finish_with(mut self, faults: &mut Faults<'_>, elsewhere: impl Fn(&str) -> Option<String>) {
        self.end_with(faults, elsewhere);
    }

    /// The same through a reference, for a reader that shares its mapping with others.
    pub(crate) fn end(&mut self, faults: &mut Faults<'_>) {
        self.end_with(faults, |_| None);
    }

    fn end_with(&mut self, faults: &mut Faults<'_>, elsewhere: impl Fn(&str) -> Option<String>) {
        for entry in self.entries.iter_mut().filter(|entry| !entry.taken) {
            entry.taken = true;
            if let Some(message) = elsewhere(&entry.name) {
                faults.error(entry.key, message);
                continue;
            }
            let message = format!("{}: unknown key {}", self.what, quote(&entry.name));
            let help = match nearest(&entry.name, &self.known) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("it can be {}", listed(&self.known)),
            };
            faults.error_with_help(entry.key, message, help);
        }
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self, faults: &mut Faults<'_>) {
        self.finish_with(faults, |_| None);
    }
}

/// What is below a key that opens a mapping.
pub(crate) enum Section<'n> {
    /// The key was left out.
    Absent,
    /// What is there was reported.
    Refused,
    /// To be read.
    Open(Fields<'n>),
}

/// A key as the readers know it: `nw name` is `nw_name`.
pub(crate) fn normalised(key: &str) -> String {
    key.split([' ', '_']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

/// What a word was probably meant to be.
pub(crate) fn nearest<'c>(word: &str, choices: &[&'c str]) -> Option<&'c str> {
    choices
        .iter()
        .map(|choice| (strsim::damerau_levenshtein(&word.to_lowercase(), choice), *choice))
        .min()
        .filter(|(distance, choice)| *distance <= (choice.len() / 3).max(1))
        .map(|(_, choice)| choice)
}

/// `` `a`, `b` or `c` ``
pub(crate) fn listed(choices: &[&str]) -> String {
    let quoted: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn read_value<T>(
    faults: &mut Faults<'_>,
    name: &str,
    found: Spanned<&Node>,
    read: impl Fn(&Node) -> Result<T, Complaint>,
) -> Option<Spanned<T>> {
    // Nothing was written: the key is what can be pointed at.
    let span = if found.value.is_null() { found.span } else { found.value.span };
    match read(found.value) {
        Ok(value) => Some(Spanned::new(value, span)),
        Err(complaint) => {
            faults.complain(span, name, complaint);
            None
        }
    }
}
