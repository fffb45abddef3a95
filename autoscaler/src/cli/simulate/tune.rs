//! `sluice tune`: a proactive policy's parameters, found on the first part of a load and scored on the rest.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::Serialize;
use sluice_logic::simulate::{
    Candidate, Contender, Measures, Setup, Trace, Weights, calmer_than, candidates, choose, lineup, paces,
    simulate,
};
use sluice_logic::spec::PolicySpec;

use super::args::TuneArgs;
use super::progress::Progress;
use super::report::{self, Outcome};
use super::{load, part, play, tenant_contender, yaml};
use crate::cli::{Failure, output};

/// What a policy does before it has seen some of the load says little: the search is scored from this share of the
/// training part on.
const WARM_UP: f64 = 0.25;

/// What the report calls the policy that was found.
const TUNED: &str = "tuned";

/// What was found, as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    trace: &'a str,
    setup: &'a Setup,
    /// The share of the trace that was searched on.
    train: f64,
    /// Most changes an hour that were asked for.
    most_changes: f64,
    /// Whether the search found as calm a policy; where not, it is the calmest.
    calm_enough: bool,
    change_cost: f64,
    margin_seconds: u64,
    /// The stabilization that the group was given inwards, where nothing was calm enough at its own pace.
    stabilization_in_seconds: Option<u64>,
    /// What it did on the part that was searched on, after its warm-up.
    trained: Measures,
    /// What the HPA did there.
    trained_hpa: Measures,
    /// What it and the others did on the rest.
    outcomes: &'a [Outcome],
    /// The policy as a tenant file.
    yaml: &'a str,
}

/// Searches, reports and prints the policy.
pub(crate) fn run(args: &TuneArgs) -> Result<(), Failure> {
    if !(0.05..=0.95).contains(&args.train) {
        let message = "--train has to leave something to search on and to report on: 5% to 95%";
        return Err(Failure::Wrong(message.to_owned()));
    }
    let (trace, name) = load::load(&args.load)?;
    let base = base(args)?;
    let setup = args.world.setup(&trace, base.group.min)?;
    let weights = args.world.weights()?;
    let mut baselines = lineup::baselines(&base.group, args.world.baseline_target);
    let search = Search { trace: trace.first_part(args.train), setup: &setup, weights };
    let hpa = lineup::hpa(&base.group, args.world.baseline_target);
    let trained_hpa = search.score(&hpa, || ());
    let most_changes = most_changes(args, &trained_hpa)?;
    let found = search.best(&base, most_changes);
    let Found { paced, candidate, trained, calm_enough } =
        found.ok_or_else(|| Failure::Failed(anyhow::anyhow!("there is no candidate")))?;
    let stabilization = paced.group.pace.r#in.stabilization;
    let slowed = (stabilization != base.group.pace.r#in.stabilization).then_some(stabilization);
    let tuned = Contender { name: TUNED.to_owned(), ..candidate.apply(&paced) };
    let yaml = yaml::tenant_file(&tuned, &name);
    let mut contenders = vec![tuned, base];
    contenders.append(&mut baselines);
    let outcomes = play(&contenders, &trace, &setup, weights, args.train);
    let found = Report {
        trace: &name,
        setup: &setup,
        train: args.train,
        most_changes,
        calm_enough,
        change_cost: candidate.change_cost,
        margin_seconds: candidate.margin.as_secs(),
        stabilization_in_seconds: slowed.map(|slowed| slowed.as_secs()),
        trained,
        trained_hpa,
        outcomes: &outcomes,
        yaml: &yaml,
    };
    print(&found, args.json)
}

fn print(found: &Report<'_>, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(output::json(found)?);
    }
    // The policy alone goes to standard output, so that it can be kept and checked.
    let percent = 100.0 * found.train;
    output::remark!("Searched on the first {percent:.0} % of {}:", found.trace);
    output::remark!("{}", against_hpa(&found.trained, &found.trained_hpa));
    if let Some(seconds) = found.stabilization_in_seconds {
        let minutes = seconds / 60;
        output::remark!(
            "The group's pace is slower than it was, `in: {{stabilization: {minutes}m}}`: without that, no candidate changes \
             the number as rarely as {:.3} times an hour there.",
            found.most_changes
        );
    }
    if !found.calm_enough {
        output::remark!(
            "No candidate changes the number as rarely as {:.3} times an hour there; this is the calmest.",
            found.most_changes
        );
    }
    output::remark!("On what comes after, which the search has not seen:");
    let of = |name| found.outcomes.iter().find(|outcome| outcome.name == name).map(|o| &o.measures);
    if let (Some(tuned), Some(hpa)) = (of(TUNED), of("hpa")) {
        output::remark!("{}", against_hpa(tuned, hpa));
    }
    output::remark!("{}", report::table(found.outcomes));
    output::say_lines(&found.yaml.trim_end_matches('\n'));
    Ok(())
}

/// What a policy is judged by, in a line.
fn against_hpa(ours: &Measures, hpa: &Measures) -> String {
    let ratio = output::or_dash(report::relative(ours, hpa), |ratio| format!("{ratio:.2}"));
    format!(
        "  excess {:.3}, the HPA's {:.3}: {ratio} of it; changes {} ({:.2} an hour), the HPA's {} ({:.2})",
        ours.excess, hpa.excess, ours.changes, ours.changes_per_hour, hpa.changes, hpa.changes_per_hour,
    )
}

/// What is tuned: a tenant whose policies can be written again, or `policy: dynamic`.
fn base(args: &TuneArgs) -> Result<Contender, Failure> {
    let Some(path) = &args.tenant else {
        let group = lineup::plain(args.world.min, args.world.max);
        return Ok(lineup::dynamic(&group, args.world.usable));
    };
    let base = tenant_contender(path)?;
    let has_proactive = base.policies.iter().any(|policy| matches!(policy, PolicySpec::Proactive(_)));
    let other = base
        .policies
        .iter()
        .find(|policy| !matches!(policy, PolicySpec::Proactive(_) | PolicySpec::TargetTracking(_)));
    let what = match other {
        _ if !has_proactive => "it has no `proactive` policy, which is what is tuned".to_owned(),
        Some(other) => {
            format!(
                "it has a `{}` policy, and only `proactive` and `target_tracking` can be tuned",
                other.kind()
            )
        }
        None => return Ok(base),
    };
    Err(Failure::Wrong(format!("{}: {what}", path.display())))
}

fn most_changes(args: &TuneArgs, hpa: &Measures) -> Result<f64, Failure> {
    match args.most_changes {
        Some(most) if most.is_finite() && most >= 0.0 => Ok(most),
        Some(_) => Err(Failure::Wrong("--most-changes has to be finite and not negative".to_owned())),
        None => Ok(calmer_than(hpa)),
    }
}

/// The part of a load that is searched on.
struct Search<'a> {
    trace: Trace,
    setup: &'a Setup,
    weights: Weights,
}

/// What a search found.
struct Found {
    /// At which pace of the group.
    paced: Contender,
    candidate: Candidate,
    trained: Measures,
    calm_enough: bool,
}

impl Search<'_> {
    /// The best candidate at the first pace at which one is calm enough; where there is none, the calmest of all. `None`
    /// without candidates.
    fn best(&self, base: &Contender, most_changes: f64) -> Option<Found> {
        let (candidates, mut calmest) = (candidates(), None::<Found>);
        for paced in paces(base) {
            let results = self.all(&paced, &candidates);
            let tuned = choose(&results, most_changes)?;
            let (candidate, trained) = (candidates[tuned.index], results[tuned.index]);
            let found = Found { paced, candidate, trained, calm_enough: tuned.calm_enough };
            if found.calm_enough {
                return Some(found);
            }
            let rate = |found: &Found| found.trained.changes_per_hour;
            calmest = calmest.filter(|calmest| rate(calmest) <= rate(&found)).or(Some(found));
        }
        calmest
    }

    fn score(&self, contender: &Contender, progress: impl FnMut()) -> Measures {
        let run = simulate(contender, &self.trace, self.setup, progress);
        let steps = run.records.len();
        Measures::of(&run, part(steps, WARM_UP), steps, self.weights)
    }

    /// The score of each candidate, on all cores. The order in which they come to be does not matter.
    fn all(&self, base: &Contender, candidates: &[Candidate]) -> Vec<Measures> {
        let steps = self.trace.span().as_secs() / self.setup.step.as_secs().max(1);
        let progress = Progress::new(steps * candidates.len() as u64, "searching");
        let next = AtomicUsize::new(0);
        let scores = Mutex::new(vec![Measures::default(); candidates.len()]);
        let work = || {
            while let Some((index, candidate)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                candidates.get(index).map(|candidate| (index, candidate))
            } {
                let score = self.score(&candidate.apply(base), progress.counter());
                scores.lock().unwrap_or_else(PoisonError::into_inner)[index] = score;
            }
        };
        thread::scope(|scope| {
            let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(candidates.len());
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
        progress.end();
        scores.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
