//! A dockerd of one's own, and an image to run in it: for the demo and the tests.
//!
//! There is no registry: the [`Image`] is made of files of this host and loaded into the [`Dockerd`], which keeps
//! all that it has below one directory and touches nothing of the host's network.

mod dockerd;
mod image;
mod place;

pub use dockerd::Dockerd;
pub use image::Image;
