//! Reads what an instance is as a virtual machine.

use sluice_logic::spec::{
    CloudInit, DEFAULT_SHUTDOWN_TIMEOUT, GuestPassword, GuestUser, ImageFormat, LibvirtTemplate, VmBoot,
    VmDisk,
};

use super::{section, user_data};
use crate::diagnostic::{Faults, Severity, quote};
use crate::reader::Fields;
use crate::value::{self, Complaint, LONGEST_WAIT};
use crate::yaml::{Node, Span};
use std::time::Duration;

/// The smallest and largest disk, bytes.
const DISKS: std::ops::RangeInclusive<u64> = (1 << 20)..=(64 << 40);
/// `encrypt` is `should_encrypt_pwd`.
pub(super) fn read(
    faults: &mut Faults<'_>,
    mut fields: Fields<'_>,
    encrypt: bool,
) -> Option<LibvirtTemplate> {
    let boot = boot(faults, &mut fields);
    let vcpus = fields.optional(faults, &["vcpus"], |node| value::whole(1..=1_024, node));
    let machine = fields.optional(faults, &["machine"], machine);
    let shutdown_timeout =
        fields.defaulted(faults, &["shutdown_timeout"], DEFAULT_SHUTDOWN_TIMEOUT, |node| {
            value::duration(Duration::ZERO..=LONGEST_WAIT, node)
        });
    let cloud_init =
        section(faults, &mut fields, "cloud_init", |faults, fields| cloud_init(faults, fields, encrypt));
    fields.finish(faults);
    Some(LibvirtTemplate {
        boot: boot?,
        vcpus: vcpus?.map(|vcpus| vcpus.value),
        machine: machine?.map(|machine| machine.value),
        shutdown_timeout: shutdown_timeout?,
        cloud_init: cloud_init?.unwrap_or_default(),
    })
}

fn boot(faults: &mut Faults<'_>, fields: &mut Fields<'_>) -> Option<VmBoot> {
    let image = fields.optional(faults, &["image"], value::path);
    let format = fields.optional(faults, &["format"], |node| {
        value::choice(&[("qcow2", ImageFormat::Qcow2), ("raw", ImageFormat::Raw)], &[], node)
    });
    let size = fields.optional(faults, &["disk"], |node| value::size(DISKS, node));
    let kernel = fields.optional(faults, &["kernel"], value::path);
    let initrd = fields.optional(faults, &["initrd"], value::path);
    let command_line = fields.optional(faults, &["command_line"], value::text);
    let (format, size) = (format?, size?);
    let of_disk = [format.as_ref().map(|format| format.span), size.as_ref().map(|size| size.span)];
    let disk = image?.map(|image| VmDisk {
        image: image.value,
        format: format.map(|format| format.value).unwrap_or_default(),
        size: size.map(|size| size.value),
    });
    if let (None, Some(span)) = (&disk, of_disk.into_iter().flatten().next()) {
        faults.error_with_help(span, "there is no disk of which it could be said", "add its `image`");
        return None;
    }
    let initrd = initrd?;
    let command_line = command_line?;
    match (disk, kernel?) {
        (disk, Some(kernel)) => Some(VmBoot::Kernel {
            kernel: kernel.value,
            initrd: initrd.map(|initrd| initrd.value),
            command_line: command_line.map(|line| line.value).unwrap_or_default(),
            disk,
        }),
        (Some(disk), None) if initrd.is_none() && command_line.is_none() => Some(VmBoot::Image(disk)),
        _ => {
            let help = "give an `image`, or a `kernel` with its `initrd` and `command_line`, or both";
            faults.error_with_help(fields.span, "it is not said what a machine boots from", help);
            None
        }
    }
}

/// QEMU's names have dots and dashes: `pc-q35-7.2`.
fn machine(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(text);
    }
    let message = format!("{} is not a machine type", quote(&text));
    Err(Complaint::with_help(message, "give one that `qemu-system-x86_64 -machine help` lists, as `q35`"))
}

fn cloud_init(faults: &mut Faults<'_>, mut fields: Fields<'_>, encrypt: bool) -> Option<CloudInit> {
    let hostname = fields.optional(faults, &["hostname"], hostname);
    let user_data = fields.optional(faults, &["user_data"], user_data::read);
    if let Some(Some(data)) = &user_data {
        find_passwords(faults, data.span, &data.value, encrypt);
    }
    let users = fields.optional_list(faults, "users");
    fields.finish(faults);
    let items = users?.map_or(&[][..], |items| items.value);
    let users: Vec<_> = items.iter().map(|item| user(faults, item)).collect();
    Some(CloudInit {
        hostname: hostname?.map(|name| name.value),
        users: users.into_iter().collect::<Option<_>>()?,
        user_data: user_data?.map(|data| data.value),
        encrypt_passwords: encrypt,
    })
}

/// RFC 1123, section 2.1.
fn hostname(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    let label = |label: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(text);
    }
    Err(Complaint::new(format!("{} is not the name of a host", quote(&text))))
}

/// What it says in clear is stored with each instance, and can be read where the instance runs.
fn find_passwords(faults: &mut Faults<'_>, span: Span, text: &str, encrypt: bool) {
    match user_data::passwords(text) {
        Ok(found) => {
            for key in found {
                let message = format!("`{key}` in the user data is a password in clear");
                if encrypt {
                    let help = "name a file that has it as `password_file` of one of `users`, or give the hash that \
                                `openssl passwd -6` prints";
                    faults.add(span, Severity::Error, message, Some(help.to_owned()));
                } else {
                    let help = "who can read the state or a guest's domain can read it; a hash does as well";
                    faults.add(span, Severity::Warning, message, Some(help.to_owned()));
                }
            }
        }
        Err(fault) if encrypt => {
            let message = format!(
                "whether the user data has a password can't be told: line {}: {}",
                fault.span.line, fault.message
            );
            faults.add(span, Severity::Error, message, fault.help);
        }
        Err(_) => {}
    }
}

fn user(faults: &mut Faults<'_>, node: &Node) -> Option<GuestUser> {
    let mut fields = Fields::open(faults, "user", node)?;
    let name = fields.required(faults, &["name"], login);
    let hash = fields.optional(faults, &["password_hash"], hash);
    let file = fields.optional(faults, &["password_file"], value::path);
    let sudo = fields.defaulted(faults, &["sudo"], false, value::boolean);
    let keys = fields.optional_list(faults, "ssh_keys");
    fields.finish_with(faults, |key| {
        (key == "password").then(|| {
            "a password does not stand here: write it into a file that only root can read and name that as \
             `password_file`, or give what `openssl passwd -6` makes of it as `password_hash`"
                .to_owned()
        })
    });
    let ssh_keys = ssh_keys(faults, keys?.map_or(&[][..], |keys| keys.value));
    let password = match (hash?, file?) {
        (None, None) => None,
        (Some(hash), None) => Some(GuestPassword::Hash(hash.value)),
        (None, Some(file)) => Some(GuestPassword::File(file.value)),
        (Some(hash), Some(_)) => {
            let help = "a user has one password";
            faults.error_with_help(hash.span, "`password_hash` and `password_file` exclude each other", help);
            return None;
        }
    };
    Some(GuestUser { name: name?.value, password, ssh_keys: ssh_keys?, sudo: sudo? })
}

fn ssh_keys(faults: &mut Faults<'_>, items: &[Node]) -> Option<Vec<String>> {
    let read = |node: &Node| match value::text(node) {
        Ok(key) if !key.trim().is_empty() && !key.contains('\n') => Some(key),
        _ => {
            let help = "give one line of an `authorized_keys` or `.pub` file";
            faults.error_with_help(node.span, "this is not a public key", help);
            None
        }
    };
    let keys: Vec<_> = items.iter().map(read).collect();
    keys.into_iter().collect()
}

/// What `useradd` takes.
fn login(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if starts_well && text.len() <= 32 && text.chars().all(allowed) {
        return Ok(text);
    }
    let what = "1 to 32 of a-z, 0-9, `-` and `_`, the first a letter or `_`";
    Err(Complaint::new(format!("{} is not a login name: {what}", quote(&text))))
}

/// What else it may be could be a password, so it is not repeated.
fn hash(node: &Node) -> Result<String, Complaint> {
    let text = value::text(node)?;
    if user_data::is_hash(&text) {
        return Ok(text);
    }
    Err(Complaint::with_help("this is not the hash of a password", "give what `openssl passwd -6` prints"))
}
