//! Demand, supply and decisions, drawn.

use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::prelude::*;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;
use sluice_logic::simulate::Record;

use super::report::Outcome;

const WIDTH: u32 = 1400;
const HEIGHT: u32 = 260;
/// A longer run is drawn as the smallest and largest value of so many stretches.
const MOST_STRETCHES: usize = 1200;
/// More changes than that are a smear.
const MOST_MARKS: usize = 600;

const DEMAND: RGBColor = RGBColor(150, 150, 150);
const SUPPLY: RGBColor = RGBColor(20, 90, 180);
const OUT: RGBColor = RGBColor(0, 130, 60);
const IN: RGBColor = RGBColor(200, 70, 0);

/// The picture as SVG: a panel for each contender, demand as an area, supply as a line, a mark for each change.
pub(super) fn svg(title: &str, outcomes: &[Outcome]) -> anyhow::Result<String> {
    let mut text = String::new();
    let panels = u32::try_from(outcomes.len()).unwrap_or(1).max(1);
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, HEIGHT * panels + 40)).into_drawing_area();
        let drawn =
            draw(&root, title, outcomes).and_then(|()| root.present().map_err(|error| error.to_string()));
        drawn.map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    Ok(text)
}

fn draw(
    root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    outcomes: &[Outcome],
) -> Result<(), String> {
    root.fill(&WHITE).map_err(|error| error.to_string())?;
    let root = root.titled(title, ("sans-serif", 20)).map_err(|error| error.to_string())?;
    for (area, outcome) in root.split_evenly((outcomes.len(), 1)).iter().zip(outcomes) {
        panel(area, outcome).map_err(|error| error.to_string())?;
    }
    Ok(())
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn panel<'a>(area: &DrawingArea<SVGBackend<'a>, plotters::coord::Shift>, outcome: &Outcome) -> Drawn<'a> {
    let Outcome { name, measures, run, .. } = outcome;
    let hours = |steps: usize| number(steps) * run.step.as_secs_f64() / 3600.0;
    let demand = outline(&run.records, |record| record.demand);
    let supply = outline(&run.records, |record| record.in_service);
    let top = demand.iter().chain(&supply).map(|&(_, count)| count).fold(1.0, f64::max) * 1.1;
    let caption = format!(
        "{name}: excess {:.3}, supply/demand {:.2}, θU {:.2} %, {:.2} changes/h",
        measures.excess,
        measures.supply_per_demand,
        measures.under_provisioned_percent,
        measures.changes_per_hour
    );
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(30)
        .y_label_area_size(45)
        .build_cartesian_2d(0.0..hours(run.records.len()), 0.0..top)?;
    chart.configure_mesh().x_desc("hours").y_desc("instances").light_line_style(WHITE).draw()?;
    let scaled = |points: &[(usize, f64)]| {
        points.iter().map(|&(step, count)| (hours(step), count)).collect::<Vec<_>>()
    };
    chart.draw_series(AreaSeries::new(scaled(&demand), 0.0, DEMAND.mix(0.5)))?;
    chart.draw_series(LineSeries::new(scaled(&supply), &SUPPLY))?;
    if run.changes.len() <= MOST_MARKS {
        chart.draw_series(run.changes.iter().map(|change| {
            let colour = if change.to > change.from { OUT } else { IN };
            Circle::new((hours(change.step + 1), f64::from(change.to)), 2, colour.filled())
        }))?;
    }
    Ok(())
}

/// Steps and values: each holds until the next, and of a long run the least and the largest of each stretch.
fn outline(records: &[Record], value: impl Fn(&Record) -> u32) -> Vec<(usize, f64)> {
    let stretch = records.len().div_ceil(MOST_STRETCHES).max(1);
    let mut points = Vec::new();
    for (index, records) in records.chunks(stretch).enumerate() {
        let from = index * stretch;
        let least = records.iter().map(&value).min().unwrap_or_default();
        let largest = records.iter().map(&value).max().unwrap_or_default();
        points.extend([(from, f64::from(least)), (from, f64::from(largest))]);
        points.push((from + records.len(), f64::from(largest)));
    }
    points
}

fn number(steps: usize) -> f64 {
    f64::from(u32::try_from(steps).unwrap_or(u32::MAX))
}

/// Makes a PNG of the picture, with a font of this machine.
pub(super) fn write_png(path: &Path, svg: &str) -> anyhow::Result<()> {
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    let family = fonts.faces().find_map(|face| face.families.first().map(|(name, _)| name.clone()));
    let preferred = ["DejaVu Sans", "Liberation Sans", "Noto Sans", "Arial"]
        .into_iter()
        .find(|name| fonts.faces().any(|face| face.families.iter().any(|(family, _)| family == name)));
    let Some(family) = preferred.map(str::to_owned).or(family) else {
        return Err(anyhow!(
            "no TrueType font was found on this machine, and a PNG needs one for its labels: install one (Debian: \
             fonts-dejavu-core), or use --svg, which needs none"
        ));
    };
    fonts.set_sans_serif_family(family);
    let tree = usvg::Tree::from_str(svg, &options).context("the picture cannot be read back")?;
    let size = tree.size().to_int_size();
    let mut pixels = Pixmap::new(size.width(), size.height()).context("the picture has no size")?;
    resvg::render(&tree, Transform::default(), &mut pixels.as_mut());
    pixels.save_png(path).with_context(|| format!("cannot write {}", path.display()))
}
