//! The seed of a guest: the disk on which cloud-init's data source `NoCloud` finds what the guest is to be. A FAT
//! file system with the label `CIDATA` and four files:
//! <https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html>.
//!
//! The user data is the tenant's document as it is, so that it may be of every kind that cloud-init knows. What Sluice
//! itself has to say stands in the vendor data, to which cloud-init prefers user data, key by key.

use std::io::{Cursor, Write as _};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use serde_json::{Map, Value, json};
use sluice_logic::spec::{GuestUser, LibvirtTemplate};

use super::password::{self, GuestSecret};

use super::connection::Fault;
use crate::provider::InstanceSpec;

/// Small, and room for long user data.
const SIZE: usize = 1 << 20;

/// What names the disk.
const LABEL: [u8; 11] = *b"CIDATA     ";

/// User data that says nothing. Without any, cloud-init would not take the disk for a seed.
const NOTHING: &str = "#cloud-config\n{}\n";

/// The seed's bytes.
pub(super) fn image(spec: &InstanceSpec, vm: &LibvirtTemplate) -> Result<Vec<u8>, Fault> {
    let files = [
        ("meta-data", document(&meta_data(spec, vm))),
        ("user-data", vm.cloud_init.user_data.clone().unwrap_or_else(|| NOTHING.to_owned())),
        ("vendor-data", vendor_data(spec, vm)?),
        ("network-config", document(&network_config(spec))),
    ];
    pack(&files).map_err(|error| {
        let wanted: usize = files.iter().map(|(_, text)| text.len()).sum();
        Fault::Other(format!(
            "a seed of {SIZE} bytes has no room for {wanted} bytes of cloud-init data: {error}"
        ))
    })
}

fn pack(files: &[(&str, String)]) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; SIZE];
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat12).volume_label(LABEL);
    fatfs::format_volume(Cursor::new(&mut bytes[..]), options)?;
    let volume = FileSystem::new(Cursor::new(&mut bytes[..]), FsOptions::new())?;
    for (name, text) in files {
        volume.root_dir().create_file(name)?.write_all(text.as_bytes())?;
    }
    volume.unmount()?;
    Ok(bytes)
}

/// JSON is YAML, and nothing that a tenant writes can leave its string. Over several lines, so that a guest without
/// cloud-init can read it line by line.
fn document(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Also what the built-in responder is told by its environment elsewhere.
fn meta_data(spec: &InstanceSpec, vm: &LibvirtTemplate) -> Value {
    json!({
        "instance-id": spec.id.as_str(),
        "local-hostname": hostname(spec, vm),
        "sluice-tenant": spec.tenant.as_str(),
        "sluice-port": spec.template.port.to_string(),
        "sluice-management-mac": spec.management.as_ref().map_or_else(String::new, |nic| nic.mac.to_string()),
        "sluice-request-cost": spec.template.request_cost.as_micros().to_string(),
    })
}

fn hostname<'a>(spec: &'a InstanceSpec, vm: &'a LibvirtTemplate) -> &'a str {
    vm.cloud_init.hostname.as_deref().unwrap_or(spec.id.as_str())
}

/// <https://cloudinit.readthedocs.io/en/latest/explanation/vendordata.html>
fn vendor_data(spec: &InstanceSpec, vm: &LibvirtTemplate) -> Result<String, Fault> {
    let mut config = Map::new();
    config.insert("hostname".to_owned(), json!(hostname(spec, vm)));
    config.insert("preserve_hostname".to_owned(), json!(false));
    if !vm.cloud_init.users.is_empty() {
        // Whom the image has.
        let mut users = vec![json!("default")];
        for user in &vm.cloud_init.users {
            users.push(entry(user, vm.cloud_init.encrypt_passwords)?);
        }
        config.insert("users".to_owned(), json!(users));
        config.insert("ssh_pwauth".to_owned(), json!(has_password(&vm.cloud_init.users)));
    }
    Ok(format!("#cloud-config\n{}", document(&Value::Object(config))))
}

fn has_password(users: &[GuestUser]) -> bool {
    users.iter().any(|user| user.password.is_some())
}

fn entry(user: &GuestUser, encrypt: bool) -> Result<Value, Fault> {
    let mut entry = Map::new();
    entry.insert("name".to_owned(), json!(user.name));
    entry.insert("shell".to_owned(), json!("/bin/bash"));
    if let Some(password) = &user.password {
        let (key, value) = match password::for_guest(password, encrypt)? {
            GuestSecret::Hash(hash) => ("hashed_passwd", hash),
            GuestSecret::Clear(clear) => ("plain_text_passwd", clear),
        };
        entry.insert(key.to_owned(), json!(value));
        entry.insert("lock_passwd".to_owned(), json!(false));
    }
    if !user.ssh_keys.is_empty() {
        entry.insert("ssh_authorized_keys".to_owned(), json!(user.ssh_keys));
    }
    if user.sudo {
        entry.insert("sudo".to_owned(), json!("ALL=(ALL) NOPASSWD:ALL"));
    }
    Ok(Value::Object(entry))
}

/// Every interface asks by DHCP, and gets what its MAC address has reserved. Netplan's format, version 2.
fn network_config(spec: &InstanceSpec) -> Value {
    let interfaces = spec.nics().enumerate().map(|(index, nic)| {
        let config = json!({
            "match": { "macaddress": nic.mac.to_string() },
            "dhcp4": true,
            "dhcp-identifier": "mac",
        });
        (format!("nic{index}"), config)
    });
    json!({ "version": 2, "ethernets": interfaces.collect::<Map<_, _>>() })
}
