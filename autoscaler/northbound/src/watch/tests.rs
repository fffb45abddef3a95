//! The directory as editors leave it. Real files; time is passed in, and events are awaited.

mod doubt;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::timeout;

use super::{Change, Doubt, Listing, MARKER, SETTLE, TenantDirectory, Watcher};

/// A directory of tenants, and a clock.
struct Scene {
    directory: TempDir,
    memory: TempDir,
    tenants: TenantDirectory,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let (directory, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tenants = TenantDirectory::new(directory.path()).remembering(memory.path()).unwrap();
        Self { directory, memory, tenants, now: Instant::now() }
    }

    /// A daemon that starts anew; long enough after the last edit that this is old.
    fn restart(&mut self) {
        self.tenants = TenantDirectory::new(self.directory.path()).remembering(self.memory.path()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// A look, each change in short: `+a`, `~a`, `-a`, `?a` (held), `=a` (back), `!file(in force): message`.
    fn look(&mut self) -> Vec<String> {
        let listing = Listing::read(self.directory.path(), self.tenants.wants_mark());
        let changes = self.tenants.take(listing, self.now).unwrap();
        changes.iter().map(short).collect()
    }

    /// Two looks, between which everything settles.
    fn scan(&mut self) -> Vec<String> {
        let mut changes = self.look();
        self.now += SETTLE;
        changes.extend(self.look());
        changes
    }

    /// A tenant that was to leave has left.
    fn left(&mut self, name: &str) {
        self.tenants.has_left(&name.to_owned().try_into().unwrap());
    }

    fn in_force(&self) -> Vec<String> {
        let described = self.tenants.in_force().map(|(path, tenant)| {
            let file = path.file_name().unwrap().to_str().unwrap();
            format!("{file}: {} max {}", tenant.spec.name, tenant.spec.group.max)
        });
        described.collect()
    }
}

fn short(change: &Change) -> String {
    match change {
        Change::Added { tenant, .. } => format!("+{}", tenant.spec.name),
        Change::Changed { tenant, .. } => format!("~{}", tenant.spec.name),
        Change::Removed { before, .. } => format!("-{}", before.name),
        Change::Held { before, .. } => format!("?{}", before.name),
        Change::Back { tenant, .. } => format!("={tenant}"),
        Change::Refused { path, in_force, diagnostics, waits } => {
            let file = path.file_name().unwrap().to_str().unwrap();
            let in_force = in_force.as_ref().map_or("-", |name| name.as_str());
            format!("{}{file}({in_force}): {}", if *waits { "…" } else { "!" }, diagnostics[0].message)
        }
    }
}

fn tenant(name: &str, number: u8, max: u32) -> String {
    format!(
        "tenant: {name}\nnetworks: [{{name: n, subnet: 10.0.{number}.0/24}}]\n\
         services: [{{vip: 45.0.0.{number}, protocol: tcp}}]\ngroup: {{min: 1, max: {max}}}\n"
    )
}

#[test]
fn files_come_change_and_go() {
    let mut scene = Scene::new();
    assert!(scene.scan().is_empty());
    scene.write("a.yml", tenant("a", 1, 5));
    scene.write("b.yaml", tenant("b", 2, 5));
    scene.write(".c.yml", tenant("c", 3, 5));
    scene.write("d.yml~", tenant("d", 4, 5));
    fs::create_dir(scene.path("e.yml")).unwrap();
    assert_eq!(scene.scan(), ["+a", "+b"]);
    assert!(scene.scan().is_empty());
    scene.write("a.yml", tenant("a", 1, 6));
    assert_eq!(scene.scan(), ["~a"]);
    scene.write("a.yml", tenant("a", 1, 6) + "# a comment\n");
    assert!(scene.scan().is_empty());
    fs::remove_file(scene.path("a.yml")).unwrap();
    assert!(scene.look().is_empty(), "an editor may be about to write it anew");
    assert_eq!(scene.scan(), ["-a"]);
    assert!(scene.scan().is_empty());
    assert_eq!(
        scene.in_force(),
        ["a.yml: a max 5", "b.yaml: b max 5"].map(|is| is.replace("a max 5", "a max 6"))
    );
    scene.left("a");
    assert_eq!(scene.in_force(), ["b.yaml: b max 5"]);
}

#[test]
fn a_text_is_taken_whole() {
    let mut scene = Scene::new();
    let (good, longer) = (tenant("a", 1, 1), tenant("a", 1, 15));
    scene.write("a.yml", &longer);
    assert_eq!(scene.scan(), ["+a"]);
    // A good file by itself, and the first digit of the limit.
    let mut writer = fs::File::create(scene.path("a.yml")).unwrap();
    writer.write_all(&good.as_bytes()[..good.len() - 2]).unwrap();
    assert!(scene.scan().is_empty() && scene.scan().is_empty(), "somebody has it open");
    let half: Vec<_> = scene.tenants.written_for(SETTLE, scene.now).collect();
    assert_eq!(half, [scene.path("a.yml")]);
    writer.write_all(b"4}\n").unwrap();
    drop(writer);
    assert!(scene.look().is_empty(), "it may go on changing");
    assert_eq!(scene.tenants.next_look(), Some(scene.now + SETTLE));
    let writer = fs::OpenOptions::new().append(true).open(scene.path("a.yml")).unwrap();
    assert!(scene.look().is_empty());
    assert_eq!(scene.tenants.next_look(), None, "nothing settles while somebody has it open");
    drop(writer);
    // Written in two goes, `>` and `>>`.
    scene.write("a.yml", &good[..good.len() - 2]);
    scene.now += SETTLE;
    assert!(scene.look().is_empty());
    let mut writer = fs::OpenOptions::new().append(true).open(scene.path("a.yml")).unwrap();
    writer.write_all(b"4}\n").unwrap();
    drop(writer);
    scene.now += SETTLE / 2;
    assert!(scene.look().is_empty());
    assert_eq!(scene.in_force(), ["a.yml: a max 15"]);
    scene.now += SETTLE;
    assert_eq!(scene.look(), ["~a"]);
    assert_eq!(scene.in_force(), ["a.yml: a max 14"]);
}

#[test]
fn a_bad_edit_is_refused_once_and_the_last_good_one_stays() {
    let mut scene = Scene::new();
    let good = tenant("a", 1, 5);
    scene.write("a.yml", &good);
    scene.scan();
    for (bad, message) in [
        (&b""[..], "the file is empty"),
        (&good.as_bytes()[..60], "not valid YAML"),
        (&good.as_bytes()[..good.find("group").unwrap()], "the key `group` is missing"),
        (b"\xff\xfe", "not UTF-8"),
    ] {
        scene.write("a.yml", bad);
        let changes = scene.scan();
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert!(changes[0].starts_with("!a.yml(a): ") && changes[0].contains(message), "{changes:?}");
        assert!(scene.scan().is_empty(), "said once");
        assert_eq!(scene.in_force(), ["a.yml: a max 5"]);
    }
    scene.write("a.yml", &good);
    assert!(scene.scan().is_empty(), "nothing has changed in the end");
    scene.write("a.yml", b"");
    assert_eq!(scene.scan().len(), 1, "a new edit is a new refusal");
    scene.write("a.yml", tenant("a", 1, 7));
    assert_eq!(scene.scan(), ["~a"]);
}

#[test]
fn a_bad_new_file_has_no_tenant() {
    let mut scene = Scene::new();
    scene.write("a.yml", "tenant: a\n");
    assert_eq!(scene.scan(), ["!a.yml(-): the tenant: the key `networks` is missing"]);
    fs::remove_file(scene.path("a.yml")).unwrap();
    assert!(scene.scan().is_empty());
}

#[test]
fn editors_replace_files() {
    let mut scene = Scene::new();
    scene.write("a.yml", tenant("a", 1, 5));
    scene.scan();
    // Moved away, looked at, written anew.
    fs::rename(scene.path("a.yml"), scene.path("a.yml~")).unwrap();
    assert!(scene.look().is_empty());
    scene.write("a.yml", tenant("a", 1, 6));
    assert_eq!(scene.scan(), ["~a"]);
    // Written beside, then renamed over it.
    scene.write(".a.yml.new", tenant("a", 1, 7));
    fs::rename(scene.path(".a.yml.new"), scene.path("a.yml")).unwrap();
    assert_eq!(scene.scan(), ["~a"]);
}

#[test]
fn a_renamed_file_is_still_the_same_tenant() {
    let mut scene = Scene::new();
    scene.write("a.yml", tenant("a", 1, 5));
    scene.scan();
    fs::rename(scene.path("a.yml"), scene.path("z.yml")).unwrap();
    assert!(scene.scan().is_empty());
    assert!(scene.scan().is_empty());
    assert_eq!(scene.in_force(), ["z.yml: a max 5"]);
    scene.restart();
    assert!(scene.scan().is_empty());
    assert_eq!(scene.in_force(), ["z.yml: a max 5"]);
}

#[test]
fn another_tenant_in_the_same_file_waits_for_what_the_first_one_has() {
    let mut scene = Scene::new();
    scene.write("a.yml", tenant("a", 1, 5));
    scene.scan();
    scene.write("a.yml", tenant("b", 1, 5));
    let changes = scene.scan();
    assert!(changes.len() == 1 && changes[0].starts_with("…a.yml(a): the subnet 10.0.1.0/24"), "{changes:?}");
    assert_eq!(scene.scan(), ["-a"]);
    assert!(scene.scan().is_empty(), "said once");
    scene.left("a");
    assert_eq!(scene.scan(), ["+b"]);
    scene.restart();
    assert!(scene.scan().is_empty());
    assert_eq!(scene.in_force(), ["a.yml: b max 5"]);
}

#[test]
fn the_newcomer_of_a_conflict_waits_until_the_claim_is_free() {
    let mut scene = Scene::new();
    scene.write("m.yml", tenant("m", 1, 5));
    scene.scan();
    // Its name sorts before the other's, but it came later.
    scene.write("a.yml", tenant("a", 1, 5));
    let changes = scene.scan();
    assert_eq!(changes.len(), 1);
    assert!(changes[0].starts_with("…a.yml(-): the subnet 10.0.1.0/24 overlaps"), "{changes:?}");
    assert!(scene.scan().is_empty());
    fs::remove_file(scene.path("m.yml")).unwrap();
    assert_eq!(scene.scan(), ["-m"]);
    assert!(scene.scan().is_empty(), "it is there until it has left");
    scene.left("m");
    assert_eq!(scene.scan(), ["+a"]);
}

#[test]
fn an_edit_that_makes_a_conflict_waits() {
    let mut scene = Scene::new();
    scene.write("a.yml", tenant("a", 1, 5));
    scene.write("b.yml", tenant("b", 2, 5));
    scene.scan();
    scene.write("a.yml", tenant("a", 2, 9));
    let changes = scene.scan();
    assert!(changes.len() == 1 && changes[0].starts_with("…a.yml(a): "), "{changes:?}");
    assert_eq!(scene.in_force(), ["a.yml: a max 5", "b.yml: b max 5"]);
    // What it still has is nobody else's.
    scene.write("c.yml", tenant("c", 1, 5));
    let changes = scene.scan();
    assert!(changes.len() == 1 && changes[0].starts_with("…c.yml(-): "), "{changes:?}");
    fs::remove_file(scene.path("c.yml")).unwrap();
    assert!(scene.scan().is_empty());
    // When the other moves out of the way, the edit is good.
    scene.write("b.yml", tenant("b", 3, 5));
    assert_eq!(scene.scan(), ["~a", "~b"]);
    assert_eq!(scene.in_force(), ["a.yml: a max 9", "b.yml: b max 5"]);
}

#[test]
fn two_tenants_can_swap_what_they_have() {
    let mut scene = Scene::new();
    scene.write("a.yml", tenant("a", 1, 5));
    scene.write("b.yml", tenant("b", 2, 5));
    scene.scan();
    scene.write("a.yml", tenant("a", 2, 5));
    scene.write("b.yml", tenant("b", 1, 5));
    assert_eq!(scene.scan(), ["~a", "~b"]);
}

#[test]
fn what_is_freed_is_told_before_what_is_taken() {
    let mut scene = Scene::new();
    for (name, number) in ["k", "m", "z"].iter().zip(1..) {
        scene.write(&format!("{name}.yml"), tenant(name, number, 5));
    }
    scene.scan();
    scene.write("a.yml", tenant("a", 4, 5));
    scene.write("m.yml", tenant("m", 2, 6));
    fs::remove_file(scene.path("z.yml")).unwrap();
    assert_eq!(scene.scan(), ["-z", "~m", "+a"]);
}

#[test]
fn a_refusal_that_falls_lets_the_others_stand() {
    let mut scene = Scene::new();
    scene.write("a.yml", tenant("a", 1, 5));
    scene.scan();
    // b conflicts with a and c with b only: c stands once b has fallen.
    scene.write("b.yml", tenant("b", 1, 5).replace("45.0.0.1", "45.0.0.9"));
    scene.write("c.yml", tenant("c", 3, 5).replace("45.0.0.3", "45.0.0.9"));
    let changes = scene.scan();
    assert_eq!(changes[0], "+c");
    assert!(changes.len() == 2 && changes[1].starts_with("…b.yml(-): "), "{changes:?}");
}

/// Far longer than any event takes; it only ends a test that has failed.
const SOON: Duration = Duration::from_secs(10);

/// Scans at each announcement until there is a change.
async fn next_change(watcher: &mut Watcher, tenants: &mut TenantDirectory) -> Vec<String> {
    let wait = async {
        loop {
            watcher.changed().await;
            let changes = tenants.rescan().unwrap();
            if !changes.is_empty() {
                return changes.iter().map(short).collect();
            }
        }
    };
    timeout(SOON, wait).await.expect("a change in time")
}

#[tokio::test]
async fn events_announce_edits_and_deletions() {
    let scene = Scene::new();
    let mut tenants = TenantDirectory::new(scene.directory.path());
    let mut watcher = Watcher::start(scene.directory.path(), 10 * SOON);
    // The watch begins on its own task: the first announcement shows that it has.
    let announced = async {
        loop {
            scene.write("probe", "");
            if timeout(Duration::from_millis(200), watcher.changed()).await.is_ok() {
                return;
            }
        }
    };
    timeout(SOON, announced).await.expect("an event");
    scene.write("a.yml", tenant("a", 1, 5));
    assert_eq!(next_change(&mut watcher, &mut tenants).await, ["+a"]);
    scene.write("a.yml", tenant("a", 1, 6));
    assert_eq!(next_change(&mut watcher, &mut tenants).await, ["~a"]);
    fs::remove_file(scene.path("a.yml")).unwrap();
    assert_eq!(next_change(&mut watcher, &mut tenants).await, ["-a"]);
}

#[tokio::test]
async fn a_scan_is_not_an_event() {
    let scene = Scene::new();
    scene.write("a.yml", tenant("a", 1, 5));
    let mut tenants = TenantDirectory::new(scene.directory.path());
    // The first two mark the directory.
    tenants.rescan().unwrap();
    tenants.rescan().unwrap();
    let mut watcher = Watcher::start(scene.directory.path(), 10 * SOON);
    // Whatever was announced at the start settles; each scan after that must stay without an echo.
    while timeout(Duration::from_secs(1), watcher.changed()).await.is_ok() {}
    tenants.rescan().unwrap();
    assert!(timeout(Duration::from_millis(300), watcher.changed()).await.is_err());
}

#[tokio::test]
async fn without_events_there_is_a_look_now_and_then() {
    let scene = Scene::new();
    let later = scene.path("later");
    let mut tenants = TenantDirectory::new(&later);
    let mut watcher = Watcher::start(&later, Duration::from_millis(20));
    timeout(SOON, watcher.changed()).await.expect("a look");
    assert!(tenants.rescan().is_err());
    fs::create_dir(&later).unwrap();
    fs::write(later.join("a.yml"), tenant("a", 1, 5)).unwrap();
    assert_eq!(next_change(&mut watcher, &mut tenants).await, ["+a"]);
}
