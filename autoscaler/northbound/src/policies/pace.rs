//! Reads a group's pace.

use std::time::Duration;

use sluice_logic::history::LONGEST_MEMORY;
use sluice_logic::spec::{Amount, Direction, Pace, RateLimit, ScaleInControl, Select};

use super::dynamic::warm_up;
use crate::diagnostic::{Faults, quote};
use crate::reader::{Fields, Section};
use crate::value::{self, Complaint};
use crate::yaml::Node;

/// The HPA's largest rate: people write one that limits nothing.
const MOST: u32 = i32::MAX.unsigned_abs();

/// The keys of the pace, which stand among the group's. `None` has been reported.
pub(crate) fn pace(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<Pace> {
    let warm_up = fields.defaulted(faults, &["warm_up"], Duration::ZERO, warm_up);
    let out = direction(faults, fields, "out");
    let r#in = direction(faults, fields, "in");
    let control = match fields.section(faults, "scale_in_control") {
        Section::Absent => Some(None),
        Section::Refused => None,
        Section::Open(mut fields) => {
            let most = fields.required(faults, &["most"], |node| match amount(node)? {
                Amount::Percent(percent) if percent > 100 => {
                    Err(Complaint::with_help("there is no more than 100% to go", "leave the control out"))
                }
                most => Ok(most),
            });
            let window = fields.defaulted(faults, &["window"], Duration::from_mins(10), memory);
            fields.end(faults);
            most.zip(window).map(|(most, window)| Some(ScaleInControl { most: most.value, window }))
        }
    };
    Some(Pace { warm_up: warm_up?, out: out?, r#in: r#in?, scale_in_control: control? })
}

fn direction(faults: &mut Faults<'_>, fields: &mut Fields<'_>, name: &'static str) -> Option<Direction> {
    let mut fields = match fields.section(faults, name) {
        Section::Open(fields) => fields,
        Section::Refused => return None,
        Section::Absent => return Some(Direction::default()),
    };
    let stabilization = fields.defaulted(faults, &["stabilization"], Duration::ZERO, memory);
    let choices = [("max", Select::Max), ("min", Select::Min), ("disabled", Select::Disabled)];
    let select =
        fields.defaulted(faults, &["select"], Select::Max, |node| value::choice(&choices, &[], node));
    let wait = |node: &Node| value::duration(Duration::ZERO..=value::LONGEST_WAIT, node);
    let buffer_time = fields.optional(faults, &["buffer_time"], wait);
    let items = fields.optional_list(faults, "limits");
    fields.end(faults);
    let limits: Vec<_> =
        items?.map_or(&[][..], |items| items.value).iter().map(|item| limit(faults, item)).collect();
    Some(Direction {
        stabilization: stabilization?,
        limits: limits.into_iter().collect::<Option<_>>()?,
        select: select?,
        buffer_time: buffer_time?.map(|time| time.value),
    })
}

fn limit(faults: &mut Faults<'_>, node: &Node) -> Option<RateLimit> {
    let mut fields = Fields::open(faults, "limit", node)?;
    let most = fields.required(faults, &["most"], amount);
    let period = fields
        .required(faults, &["per"], |node| value::duration(Duration::from_secs(1)..=LONGEST_MEMORY, node));
    fields.end(faults);
    Some(RateLimit { most: most?.value, period: period?.value })
}

/// What a group can look back over.
fn memory(node: &Node) -> Result<Duration, Complaint> {
    value::duration(Duration::ZERO..=LONGEST_MEMORY, node)
}

/// A number of instances, or a share of them: `4` or `10%`.
fn amount(node: &Node) -> Result<Amount, Complaint> {
    let text = value::text(node)?;
    let Some(percent) = text.trim().strip_suffix('%') else {
        return value::whole(1..=MOST, node).map(Amount::Count);
    };
    let percent = percent.trim().parse().ok().filter(|percent| (1..=MOST).contains(percent));
    let expected = || format!("expected a number of percent from 1% to {MOST}%, found {}", quote(&text));
    percent.map(Amount::Percent).ok_or_else(|| Complaint::new(expected()))
}
