//! Whatever stands in a file, it is read to its end.

use proptest::prelude::*;

use super::{FLAT, STRUCTURED};
use crate::diagnostic::has_errors;
use crate::tenant::parse;

/// Refused with a reason, or taken; never a panic, and never refused without one.
fn reads(text: &str) -> Result<(), TestCaseError> {
    match parse("t.yml", text) {
        Ok(tenant) => prop_assert!(!has_errors(&tenant.warnings)),
        Err(faults) => {
            prop_assert!(has_errors(&faults));
            for fault in &faults {
                prop_assert!(fault.line >= 1 && fault.column >= 1 && fault.width >= 1);
                prop_assert!(!fault.to_string().is_empty());
            }
            prop_assert!(faults.is_sorted_by_key(|fault| (fault.line, fault.column)));
        }
    }
    Ok(())
}

#[test]
fn every_beginning_of_a_valid_file_is_read() {
    for text in [FLAT, STRUCTURED] {
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            reads(&text[..end]).unwrap_or_else(|error| panic!("{error} in\n{}", &text[..end]));
        }
    }
}

/// Pieces of which YAML is made, and keys and values that get past the first check.
fn yaml_pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "tenant",
        "t_name",
        "networks",
        "services",
        "group",
        "policies",
        "reactive",
        "threshold",
        "min",
        "subnet",
        "19.0.0.0/24",
        "0.0.0.0/8",
        "255.255.255.255",
        "-1",
        "0",
        "1e308",
        "a",
        ": ",
        ":",
        "\n",
        "\n  ",
        "\n- ",
        "- ",
        "{",
        "\t",
        "\0",
        "\u{a0}",
        "\u{202e}",
        "010",
        "&a ",
        "*a",
        "!!int ",
        "<<",
        "}",
        "[",
        "]",
        ", ",
        "\"",
        "'",
        "#",
        "|",
        ">",
        "&a ",
        "*a",
        "!t ",
        "---\n",
        "...\n",
        "? ",
        "%YAML 1.2\n",
        "\t",
        "\r",
        "\u{85}",
        "\u{2028}",
        "ä",
        "\\x",
        "~",
        "null",
        "@",
        "`",
        "\u{0}",
        "\u{feff}",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_read(text in any::<String>()) {
        reads(&text)?;
    }

    #[test]
    fn anything_like_yaml_is_read(text in yaml_pieces()) {
        reads(&text)?;
    }

    #[test]
    fn a_valid_file_with_something_else_in_it_is_read(
        at in 0..FLAT.len(), remove in 0..12_usize, insert in yaml_pieces(), structured in any::<bool>(),
    ) {
        let text = if structured { STRUCTURED } else { FLAT };
        let end = (at + remove).min(text.len());
        reads(&format!("{}{insert}{}", &text[..at], &text[end..]))?;
    }
}
