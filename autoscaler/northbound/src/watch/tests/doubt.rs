//! What is no removal, and what stays in force over a restart.

use super::*;

#[test]
fn what_was_in_force_is_in_force_after_a_restart() {
    let mut scene = Scene::new();
    scene.write("m.yml", tenant("m", 1, 5));
    scene.scan();
    scene.write("m.yml", "");
    scene.scan();
    scene.write("a.yml", tenant("a", 1, 5));
    scene.restart();
    assert_eq!(scene.in_force(), ["m.yml: m max 5"]);
    let changes = scene.scan();
    assert!(changes[0].starts_with("…a.yml(-): ") && changes[1].starts_with("!m.yml(m): "), "{changes:?}");
    // Deleted while no daemon was there to see it.
    fs::remove_file(scene.path("m.yml")).unwrap();
    scene.restart();
    let changes = scene.scan();
    assert!(changes.len() == 2 && changes.contains(&"-m".to_owned()), "{changes:?}");
    scene.left("m");
    assert_eq!(scene.scan(), ["+a"]);
    scene.restart();
    assert_eq!(scene.in_force(), ["a.yml: a max 5"]);
}

#[test]
fn a_directory_that_is_gone_says_nothing_about_its_tenants() {
    let mut scene = Scene::new();
    scene.write("a.yml", tenant("a", 1, 5));
    scene.scan();
    let elsewhere = scene.memory.path().join("moved");
    fs::rename(scene.directory.path(), &elsewhere).unwrap();
    scene.restart();
    for _ in 0..2 {
        assert!(scene.tenants.rescan().is_err());
        assert!(matches!(scene.tenants.doubt(), Some(Doubt::Unreadable(_))));
        assert_eq!(scene.in_force(), ["a.yml: a max 5"]);
        scene.now += 2 * SETTLE;
    }
    fs::rename(&elsewhere, scene.directory.path()).unwrap();
    assert!(scene.scan().is_empty());
    assert_eq!(scene.tenants.doubt(), None);
}

#[test]
fn an_empty_directory_in_its_place_says_nothing_either() {
    let mut scene = Scene::new();
    scene.write("a.yml", tenant("a", 1, 5));
    scene.scan();
    let elsewhere = scene.memory.path().join("moved");
    fs::rename(scene.directory.path(), &elsewhere).unwrap();
    fs::create_dir(scene.directory.path()).unwrap();
    assert_eq!(scene.scan(), ["?a"], "one alone, but nothing tells that it was deleted");
    assert_eq!(scene.tenants.doubt(), Some(&Doubt::Unfamiliar));
    scene.restart();
    assert_eq!(scene.scan(), ["?a"], "nor after a restart");
    assert!(!scene.path(MARKER).exists(), "it is not ours to mark");
    // New tenants are news all the same; one that is known makes it the directory.
    scene.write("b.yml", tenant("b", 2, 5));
    assert_eq!(scene.scan(), ["+b"]);
    fs::remove_file(scene.path("b.yml")).unwrap();
    fs::remove_dir(scene.directory.path())
        .unwrap_or_else(|_| fs::remove_dir_all(scene.directory.path()).unwrap());
    fs::rename(&elsewhere, scene.directory.path()).unwrap();
    assert_eq!(scene.scan(), ["=a", "-b"]);
    assert_eq!(scene.in_force(), ["a.yml: a max 5", "b.yml: b max 5"]);
}

#[test]
fn all_at_once_are_held_until_a_person_confirms_also_over_a_restart() {
    let mut scene = Scene::new();
    let names = ["a", "b", "c"];
    for (name, number) in names.iter().zip(1..) {
        scene.write(&format!("{name}.yml"), tenant(name, number, 5));
    }
    scene.scan();
    for name in names {
        fs::remove_file(scene.path(&format!("{name}.yml"))).unwrap();
    }
    assert_eq!(scene.scan(), ["?a", "?b", "?c"]);
    scene.restart();
    assert_eq!(scene.scan(), ["?a", "?b", "?c"]);
    assert_eq!(scene.tenants.held().count(), 3);
    scene.write("a.yml", tenant("a", 1, 6));
    assert_eq!(scene.scan(), ["=a", "~a"]);
    let b = "b".to_owned().try_into().unwrap();
    assert!(scene.tenants.confirm(&b));
    assert_eq!(scene.look(), ["-b"]);
    scene.left("b");
    assert_eq!(scene.tenants.held().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn a_removal_goes_on_after_a_restart() {
    let mut scene = Scene::new();
    for (name, number) in ["a", "b", "c"].iter().zip(1..) {
        scene.write(&format!("{name}.yml"), tenant(name, number, 5));
    }
    scene.scan();
    fs::remove_file(scene.path("b.yml")).unwrap();
    assert_eq!(scene.scan(), ["-b"]);
    let b = "b".to_owned().try_into().unwrap();
    scene.restart();
    scene.tenants = scene.tenants.resuming(b, scene.now, true);
    assert!(scene.scan().is_empty(), "it leaves already");
    fs::remove_file(scene.path("c.yml")).unwrap();
    assert_eq!(scene.scan(), ["-c"], "what a person has confirmed holds no other");
}

#[test]
fn a_name_that_is_there_but_leads_nowhere_is_no_removal() {
    let mut scene = Scene::new();
    scene.write("a.yml", tenant("a", 1, 5));
    scene.scan();
    fs::remove_file(scene.path("a.yml")).unwrap();
    std::os::unix::fs::symlink("/nonexistent/a.yml", scene.path("a.yml")).unwrap();
    let changes = scene.scan();
    assert!(changes.len() == 1 && changes[0].starts_with("!a.yml(a): "), "{changes:?}");
    fs::remove_file(scene.path("a.yml")).unwrap();
    fs::create_dir(scene.path("a.yml")).unwrap();
    let changes = scene.scan();
    assert!(changes.len() == 1 && changes[0].starts_with("!a.yml(a): "), "{changes:?}");
    assert_eq!(scene.in_force(), ["a.yml: a max 5"]);
}

#[test]
fn what_an_older_build_took_stays_in_force_where_this_one_refuses_it() {
    let mut scene = Scene::new();
    scene.write("a.yml", tenant("a", 1, 4));
    assert_eq!(scene.scan(), ["+a"]);
    let spec = scene.tenants.in_force().next().unwrap().1.spec.clone();
    let refused = tenant("a", 1, 4).replace("max", "most");
    scene.write("a.yml", &refused);
    fs::write(scene.memory.path().join("a.yml"), &refused).unwrap();

    scene.restart();
    let path = scene.path("a.yml");
    scene.tenants = scene.tenants.recalling([(path.as_path(), &spec)].into_iter());
    assert_eq!(scene.in_force(), ["a.yml: a max 4"]);
    let changes = scene.scan();
    assert!(changes.len() == 1 && changes[0].starts_with("!a.yml(a): "), "{changes:?}");
    scene.write("a.yml", tenant("a", 1, 5));
    assert_eq!(scene.scan(), ["~a"]);
}
