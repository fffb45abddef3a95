//! A small virtual machine to boot: Debian's kernel for guests, and an initial file system of busybox and the
//! responder. And, for whoever makes guests of other kinds, the parts: the [`kernel`] and the [`initramfs`].
//! [`PrivateLibvirtd`] is what it can run on.

pub mod image;
pub mod initramfs;
pub mod kernel;
mod libvirtd;

pub use image::Image;
pub use libvirtd::PrivateLibvirtd;
