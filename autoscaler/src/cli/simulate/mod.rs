//! `sluice simulate`: policies against a load, in virtual time.

mod args;
mod cells;
mod load;
mod picture;
mod progress;
mod report;
pub(super) mod tune;
mod yaml;

use std::fs;
use std::path::Path;

use anyhow::Context;
use sluice_logic::simulate::{Contender, Measures, Setup, Trace, Weights, lineup, simulate};
use sluice_northbound::tenant;

pub(super) use self::args::{SimulateArgs, TuneArgs};
use self::progress::Progress;
use self::report::{Outcome, Report};
use super::{Failure, check, output};

/// Simulates, prints and draws.
pub(super) fn run(args: &SimulateArgs) -> Result<(), Failure> {
    let (trace, name) = load::load(&args.load)?;
    let contenders = contenders(args)?;
    let setup = args.world.setup(&trace, fewest(&contenders))?;
    let weights = args.world.weights()?;
    let outcomes = play(&contenders, &trace, &setup, weights, args.score_from);
    if let Some(path) = &args.csv {
        report::write_csv(path, &outcomes)?;
    }
    draw(args, &name, &outcomes)?;
    if args.json {
        let steps = outcomes.first().map_or(0, |outcome| outcome.run.records.len());
        let scored_from = part(steps, args.score_from);
        output::json(&Report { trace: &name, setup: &setup, scored_from, steps, outcomes: &outcomes })?;
    } else {
        output::say!("{}", report::table(&outcomes));
    }
    Ok(())
}

fn draw(args: &SimulateArgs, title: &str, outcomes: &[Outcome]) -> Result<(), Failure> {
    if args.svg.is_none() && args.png.is_none() {
        return Ok(());
    }
    let svg = picture::svg(title, outcomes)?;
    if let Some(path) = &args.svg {
        fs::write(path, &svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.png {
        picture::write_png(path, &svg)?;
    }
    Ok(())
}

/// Who is simulated: the tenants, or `policy: dynamic`; with `--compare` that one and the baselines as well.
fn contenders(args: &SimulateArgs) -> Result<Vec<Contender>, Failure> {
    let mut contenders: Vec<Contender> =
        args.tenants.iter().map(|path| tenant_contender(path)).collect::<Result<_, _>>()?;
    let limits = contenders
        .first()
        .map_or((args.world.min, args.world.max), |first| (first.group.min, first.group.max));
    let group = lineup::plain(limits.0, limits.1);
    if contenders.is_empty() || args.compare {
        contenders.push(lineup::dynamic(&group, args.world.usable));
    }
    if args.compare {
        contenders.extend(lineup::baselines(&group, args.world.baseline_target));
    }
    Ok(contenders)
}

/// What each of them has to have at least.
fn fewest(contenders: &[Contender]) -> u32 {
    contenders.iter().map(|contender| contender.group.min).min().unwrap_or_default()
}

/// A tenant's group and policies; its faults are printed.
fn tenant_contender(path: &Path) -> Result<Contender, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::Wrong(format!("cannot read the tenant file {}: {error}", path.display()))
    })?;
    let tenant = tenant::parse(&path.display().to_string(), &text).map_err(|faults| {
        check::print(&faults);
        Failure::Faults
    })?;
    check::print(&tenant.warnings);
    if tenant.spec.policies.is_empty() {
        let message = format!("{}: it has no policies, so there is nothing to simulate", path.display());
        return Err(Failure::Wrong(message));
    }
    Ok(Contender {
        name: tenant.spec.name.to_string(),
        group: tenant.spec.group,
        policies: tenant.spec.policies,
    })
}

/// Runs all contenders, and scores them from a share of the trace on.
fn play(
    contenders: &[Contender],
    trace: &Trace,
    setup: &Setup,
    weights: Weights,
    score_from: f64,
) -> Vec<Outcome> {
    let steps = trace.span().as_secs() / setup.step.as_secs().max(1);
    let progress = Progress::new(steps * contenders.len() as u64, "simulating");
    let mut outcomes: Vec<Outcome> = contenders
        .iter()
        .map(|contender| {
            let run = simulate(contender, trace, setup, progress.counter());
            let steps = run.records.len();
            let measures = Measures::of(&run, part(steps, score_from), steps, weights);
            let (name, changes) = (contender.name.clone(), run.changes.clone());
            Outcome { name, measures, relative_excess: None, changes, run }
        })
        .collect();
    progress.end();
    let hpa = outcomes.iter().find(|outcome| outcome.name == "hpa").map(|outcome| outcome.measures);
    for outcome in &mut outcomes {
        outcome.relative_excess = hpa.and_then(|hpa| report::relative(&outcome.measures, &hpa));
    }
    outcomes
}

/// The number of the step at which a share of them is over.
fn part(steps: usize, share: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count"
    )]
    let part = (steps as f64 * share).round() as usize;
    part.min(steps.saturating_sub(1))
}
