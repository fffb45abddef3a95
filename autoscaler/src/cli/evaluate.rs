//! `sluice evaluate`.

use std::fs;
use std::io::Read;

use anyhow::Context;
use sluice_northbound::evaluate;

use super::args::EvaluateArgs;
use super::{Failure, output};

/// Prints what policies would decide about a question.
pub(super) fn evaluate(args: &EvaluateArgs) -> Result<(), Failure> {
    let (label, text) = read(args)?;
    match evaluate::parse(&label, &text) {
        Ok(question) => {
            let answer = question.answer();
            if args.summary {
                output::say!("{}", answer.reason);
                for refused in &answer.samples.explained {
                    output::remark!("a sample was refused: {refused}");
                }
                return Ok(());
            }
            output::json(&answer)?;
            Ok(())
        }
        Err(faults) => {
            for fault in faults {
                output::remark_lines(&fault);
            }
            Err(Failure::Faults)
        }
    }
}

/// The question and what to call it.
fn read(args: &EvaluateArgs) -> Result<(String, String), Failure> {
    let text = if args.file.as_os_str() == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text).map(|_| text);
        read.context("cannot read the question from standard input")
    } else {
        fs::read_to_string(&args.file).with_context(|| format!("cannot read {}", args.file.display()))
    };
    let label =
        if args.file.as_os_str() == "-" { "standard input".into() } else { args.file.display().to_string() };
    Ok((label, text.map_err(|error| Failure::Wrong(format!("{error:#}")))?))
}
