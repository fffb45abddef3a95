//! The decisions of Sluice, by tables of cases and by properties over random histories.

mod buffer_time;
mod decisions;
mod fixture;
mod histories;
mod kinds;
mod lives;
mod loads;
mod maxima;
mod placements;
mod plans;
mod published;
mod rules;
mod schedules;
mod shortage;
mod simulation;
mod worlds;
