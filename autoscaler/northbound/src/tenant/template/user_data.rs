//! The tenant's own user data for cloud-init: which kinds of document are taken, and which passwords stand in them.
//! <https://cloudinit.readthedocs.io/en/latest/explanation/format.html>.

use crate::value::{self, Complaint};
use crate::yaml::{self, Kind, Node, SyntaxFault};

/// What the seed has room for, with a good part left for the rest.
const LONGEST: usize = 512 << 10;

/// The first lines that cloud-init knows a document by.
const CONFIG: &str = "#cloud-config";
const ARCHIVE: &str = "#cloud-config-archive";
const TEMPLATE: &str = "## template: jinja";
const OTHERS: [&str; 3] = ["#!", "#include", "#cloud-boothook"];

/// What of cloud-init's configuration is a document of another kind.
const PATCH: &str = "#cloud-config-jsonp";

/// What stands for a value that the guest fills in, and that is no part of the document.
const FILLED_IN: &str = "RANDOM";
/// What stands for one that the document may have in it.
const LITERAL: &str = "filled-in";

pub(super) fn read(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    if text.len() > LONGEST {
        return Err(Complaint::new(format!("user data of {} bytes: at most {LONGEST}", text.len())));
    }
    // Where it finds this so early, cloud-init takes any document for MIME.
    let head = text.bytes().take(4096).collect::<Vec<_>>().to_ascii_lowercase();
    if text.starts_with("Content-Type:") || head.windows(13).any(|part| part == b"mime-version:") {
        let help = format!("give its parts as items of a `{ARCHIVE}`");
        return Err(Complaint::with_help("documents in MIME are not taken", help));
    }
    let taken = [CONFIG, TEMPLATE].iter().chain(&OTHERS).any(|header| text.starts_with(header));
    if taken && !text.starts_with(PATCH) {
        return Ok(text);
    }
    let help = format!(
        "begin it with `{CONFIG}`, `{ARCHIVE}`, `{TEMPLATE}`, `#include`, `#cloud-boothook`, or `#!` and the program \
         that runs it"
    );
    Err(Complaint::with_help("cloud-init knows a document by its first line", help))
}

/// Where a document has passwords in clear, as `users[0].passwd`. What a program in it does is not known.
pub(super) fn passwords(text: &str) -> Result<Vec<String>, SyntaxFault> {
    let mut found = Vec::new();
    search(text, "", &mut found)?;
    Ok(found)
}

fn search(text: &str, place: &str, found: &mut Vec<String>) -> Result<(), SyntaxFault> {
    let text = text.trim_start();
    if text.starts_with(TEMPLATE) {
        let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
        return search(&fill_in(rest), place, found);
    }
    if !text.starts_with(CONFIG) {
        return Ok(());
    }
    let Some(document) = yaml::parse_foreign(text)? else { return Ok(()) };
    if text.starts_with(ARCHIVE) {
        for (index, part) in items(&document).iter().enumerate() {
            let content = field(part, "content").unwrap_or(part);
            let typed = field(part, "type").and_then(scalar) == Some("text/cloud-config");
            let content = scalar(content).unwrap_or_default();
            let place = format!("{place}[{index}].");
            if typed {
                search(&format!("{CONFIG}\n{content}"), &place, found)?;
            } else {
                search(content, &place, found)?;
            }
        }
    } else {
        found.extend(of_config(&document).into_iter().map(|key| format!("{place}{key}")));
    }
    Ok(())
}

/// cloud-init's modules `set_passwords` and `users_groups`.
fn of_config(config: &Node) -> Vec<String> {
    let mut found = Vec::new();
    if field(config, "password").is_some_and(is_clear) {
        found.push("password".to_owned());
    }
    if let Some(user) = field(config, "user") {
        found.extend(of_user(user).map(|key| format!("user.{key}")));
    }
    for (index, user) in field(config, "users").map_or(&[][..], items).iter().enumerate() {
        found.extend(of_user(user).map(|key| format!("users[{index}].{key}")));
    }
    let Some(chpasswd) = field(config, "chpasswd") else { return found };
    let list = field(chpasswd, "list");
    let lines = list.and_then(scalar).into_iter().flat_map(str::lines);
    let mut entries = lines.chain(list.map_or(&[][..], items).iter().filter_map(scalar));
    if entries.any(|entry| entry.split_once(':').is_some_and(|(_, password)| is_password(password.trim()))) {
        found.push("chpasswd.list".to_owned());
    }
    for (index, user) in field(chpasswd, "users").map_or(&[][..], items).iter().enumerate() {
        found.extend(of_user(user).map(|key| format!("chpasswd.users[{index}].{key}")));
    }
    found
}

fn of_user(user: &Node) -> impl Iterator<Item = &'static str> {
    const KEYS: [&str; 4] = ["password", "passwd", "hashed_passwd", "plain_text_passwd"];
    KEYS.into_iter().filter(|key| field(user, key).is_some_and(is_clear))
}

fn is_clear(node: &Node) -> bool {
    !node.is_null() && scalar(node).is_none_or(is_password)
}

/// Whether it could be one: it is no hash, locks nobody out, and doesn't ask for a random one.
fn is_password(text: &str) -> bool {
    !is_hash(text.trim_start_matches('!')) && !matches!(text, "" | "!" | "!!" | "*" | "R" | "RANDOM")
}

/// crypt(5): `$`, the method, and at least salt and hash.
pub(super) fn is_hash(text: &str) -> bool {
    let parts = text.split('$').collect::<Vec<_>>();
    let whole = parts.len() >= 4 && parts[0].is_empty() && parts[1..].iter().all(|part| !part.is_empty());
    whole && text.chars().all(|c| c.is_ascii_graphic() && c != ':')
}

/// A template as it could be once it is filled in.
fn fill_in(template: &str) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, tag)) = rest.split_once('{') {
        filled.push_str(before);
        let (end, stands_for) = match tag.as_bytes().first() {
            Some(b'{') => {
                let expression = tag.split("}}").next().unwrap_or_default();
                ("}}", if expression.contains(['"', '\'']) { LITERAL } else { FILLED_IN })
            }
            Some(b'%') => ("%}", ""),
            Some(b'#') => ("#}", ""),
            _ => ("", "{"),
        };
        filled.push_str(stands_for);
        rest = if end.is_empty() { tag } else { tag.split_once(end).map_or("", |(_, rest)| rest) };
    }
    filled + rest
}

fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Kind::Mapping(entries) = &node.kind else { return None };
    let named = |key: &Node| scalar(key).is_some_and(|key| key.replace('-', "_") == name);
    entries.iter().rev().find(|(key, _)| named(key)).map(|(_, value)| value)
}

fn items(node: &Node) -> &[Node] {
    match &node.kind {
        Kind::Sequence(items) => items,
        _ => &[],
    }
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar { text, .. } => Some(text),
        _ => None,
    }
}
