//! A provider, and how it goes to ask it for what is there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_logic::spec::ProviderSpec;
use sluice_southbound::provider::{Observed, Provider};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::lock;
use crate::daemon::backoff::Backoff;

/// A provider that takes longer to say what there is does not answer.
pub(super) const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// The provider of one or several clouds.
pub(super) struct Driver {
    pub(super) spec: ProviderSpec,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) listing: Mutex<Listing>,
    /// What it has been asked and nobody has the answer to yet.
    asked: tokio::sync::Mutex<Option<Question>>,
    /// What the provider could not repair when it was last told to.
    unrepaired: Arc<Mutex<Option<String>>>,
}

/// A question for what there is.
struct Question {
    began: Instant,
    answer: JoinHandle<Result<Vec<Observed>, String>>,
}

/// How it went to ask a provider for what is there.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) backoff: Backoff,
    /// Why it does not answer, while it does not.
    pub(super) fault: Option<String>,
}

/// What came of asking a provider.
pub(super) enum Listed {
    /// It was not asked, or has not answered yet.
    Unknown,
    Failed {
        reason: String,
        is_news: bool,
    },
    Found {
        began: Instant,
        observed: Vec<Observed>,
        is_news: bool,
    },
}

impl Driver {
    pub(super) fn new(spec: ProviderSpec, provider: Arc<dyn Provider>) -> Self {
        let (listing, asked, unrepaired) = (Mutex::default(), tokio::sync::Mutex::default(), Arc::default());
        Self { spec, provider, listing, asked, unrepaired }
    }

    /// Asks what there is, where that has not been asked already, and waits so long for an answer. One to a question from
    /// before `not_before` is none.
    pub(super) async fn list(&self, patience: Duration, not_before: Option<Instant>) -> Listed {
        // Somebody else may be waiting for it.
        let Ok(mut asked) = timeout(patience, self.asked.lock()).await else { return Listed::Unknown };
        let mut is_back = false;
        loop {
            let mut question = match asked.take() {
                Some(question) => question,
                None if lock(&self.listing).backoff.allows(Instant::now()) => self.ask(),
                None => return Listed::Unknown,
            };
            let listed = match timeout(patience, &mut question.answer).await {
                Err(_) => {
                    *asked = Some(question);
                    return Listed::Unknown;
                }
                Ok(Ok(answer)) => self.note(question.began, answer),
                Ok(Err(bug)) => self.note(question.began, Err(bug.to_string())),
            };
            match listed {
                Listed::Found { began, is_news, .. } if not_before.is_some_and(|moment| began < moment) => {
                    is_back |= is_news;
                }
                Listed::Found { began, observed, is_news } => {
                    return Listed::Found { began, observed, is_news: is_news || is_back };
                }
                listed => return listed,
            }
        }
    }

    fn ask(&self) -> Question {
        let (provider, spec, unrepaired) =
            (self.provider.clone(), self.spec.clone(), self.unrepaired.clone());
        let began = Instant::now();
        let answer = tokio::spawn(async move {
            let list = timeout(LIST_TIMEOUT, provider.list());
            let (listed, maintained) = tokio::join!(list, timeout(LIST_TIMEOUT, provider.maintain()));
            if let Ok(maintained) = maintained {
                report(&spec, &unrepaired, maintained.err().map(|error| error.to_string()));
            }
            match listed {
                Ok(listed) => listed.map_err(|error| error.to_string()),
                Err(_) => Err(format!("{spec} has not answered within {} s", LIST_TIMEOUT.as_secs())),
            }
        });
        Question { began, answer }
    }

    fn note(&self, began: Instant, answer: Result<Vec<Observed>, String>) -> Listed {
        let mut listing = lock(&self.listing);
        match answer {
            Ok(observed) => {
                listing.backoff.succeeded();
                Listed::Found { began, observed, is_news: listing.fault.take().is_some() }
            }
            Err(reason) => {
                listing.backoff.failed(Instant::now(), fastrand::f64());
                let is_news = listing.fault.replace(reason.clone()).is_none();
                Listed::Failed { reason, is_news }
            }
        }
    }
}

/// Says what can't be repaired, once.
fn report(spec: &ProviderSpec, unrepaired: &Mutex<Option<String>>, trouble: Option<String>) {
    let mut known = lock(unrepaired);
    if let Some(reason) = trouble.as_ref().filter(|_| *known != trouble) {
        tracing::warn!(provider = %spec, reason, "what its instances need can't be repaired");
    }
    *known = trouble;
}
