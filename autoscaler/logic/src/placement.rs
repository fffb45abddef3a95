//! Where the next instance runs: the most preferred cloud that can take it.

use std::cmp::Reverse;
use std::fmt;

use crate::spec::{CloudName, CloudSpec, ProviderKind, TemplateSpec};

/// A cloud as it is for one tenant at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer<'a> {
    /// Which.
    pub cloud: &'a CloudSpec,
    /// The instances that are there, of all tenants.
    pub used: u32,
    /// Whether it works, as far as is known.
    pub health: Health,
}

/// Whether a cloud works, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing is known against it.
    Good,
    /// It does not answer.
    Unreachable,
    /// The tenant's last instance there has failed, and it is too early for the next one.
    BackedOff,
}

/// Why a cloud can't take an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The template does not say what an instance is there.
    NotInTemplate(ProviderKind),
    /// It has as many instances as its capacity.
    Full(u32),
    /// It does not answer.
    Unreachable,
    /// It is too early after a failure.
    BackedOff,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInTemplate(kind) => write!(f, "needs a section `{kind}` in the template"),
            Self::Full(capacity) => write!(f, "is full: {capacity} instances are its `capacity`"),
            Self::Unreachable => f.write_str("does not answer"),
            Self::BackedOff => f.write_str("is given time after a failure"),
        }
    }
}

/// No cloud can take an instance now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no cloud can take an instance: {}", self.reasons())]
pub struct NoPlace {
    /// Each cloud's obstacle, the most preferred cloud first.
    pub obstacles: Vec<(CloudName, Obstacle)>,
}

impl NoPlace {
    fn reasons(&self) -> String {
        let reasons = self.obstacles.iter().map(|(cloud, obstacle)| format!("`{cloud}` {obstacle}"));
        reasons.collect::<Vec<_>>().join(", ")
    }
}

/// Sorts clouds, the most preferred one first: by priority, then the cheapest, then as they are.
pub fn sort_by_preference(clouds: &mut [CloudSpec]) {
    clouds.sort_by(|a, b| {
        let by_priority = Reverse(a.priority).cmp(&Reverse(b.priority));
        by_priority.then(a.price_per_hour.total_cmp(&b.price_per_hour))
    });
}

/// The cloud for the next instance: the first of the offers that can take it.
///
/// A cloud that is back is used again as soon as it is offered in good health; what runs elsewhere meanwhile stays
/// there.
///
/// # Errors
/// Each offer's obstacle.
pub fn place<'a>(template: &TemplateSpec, offers: &[Offer<'a>]) -> Result<&'a CloudSpec, NoPlace> {
    let mut obstacles = Vec::new();
    for offer in offers {
        match obstacle(template, offer) {
            None => return Ok(offer.cloud),
            Some(obstacle) => obstacles.push((offer.cloud.name.clone(), obstacle)),
        }
    }
    Err(NoPlace { obstacles })
}

fn obstacle(template: &TemplateSpec, offer: &Offer<'_>) -> Option<Obstacle> {
    let kind = offer.cloud.provider.kind();
    if !template.is_for(kind) {
        return Some(Obstacle::NotInTemplate(kind));
    }
    if let Some(capacity) = offer.cloud.capacity.filter(|capacity| offer.used >= *capacity) {
        return Some(Obstacle::Full(capacity));
    }
    match offer.health {
        Health::Good => None,
        Health::Unreachable => Some(Obstacle::Unreachable),
        Health::BackedOff => Some(Obstacle::BackedOff),
    }
}
