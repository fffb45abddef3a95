//! Writes to a store without end, and says after each write what is on disk: for the test that kills it.

use std::io::Write;

use jiff::{Timestamp, ToSpan};
use sluice_logic::group::InstanceId;
use sluice_logic::spec::{Metric, TenantName};
use sluice_store::{Limits, Sample, Settings, Store, Subject};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: store_writer FILE")?;
    let tenant = TenantName::try_from("demo".to_owned())?;
    let store = Store::open(Settings::new(path, Limits::default()))?;
    let begin = Timestamp::now().checked_sub(30.minutes())?;
    let mut out = std::io::stdout().lock();
    for round in 0_i64.. {
        // A minute is thousands of samples, so that rows are written anew again and again.
        let sample = |series: u32| Sample {
            at: begin + (round * 20).milliseconds(),
            subject: Subject::Instance(InstanceId::new(&tenant, series)),
            metric: Metric::Cpu,
            #[expect(clippy::cast_precision_loss, reason = "the test reads it back as a number")]
            value: round as f64,
        };
        store.keep_samples(&tenant, (0..5).map(sample).collect());
        if round % 10 == 9 {
            store.flush()?;
            writeln!(out, "{round}")?;
            out.flush()?;
        }
    }
    Ok(())
}
