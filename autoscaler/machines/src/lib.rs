//! A small virtual machine to boot: Debian's kernel for guests, and an initial file system of busybox and the
//! responder. And, for whoever makes guests of other kinds, the parts: the [`kernel`] and the [`initramfs`].

pub mod image;
pub mod initramfs;
pub mod kernel;

pub use image::Image;
