//! A person's devices, as programs: linked by a code, brought back by the phrase
//! after all were lost, taken out when one is stolen.

mod common;

use serde_json::{Value, json};

use common::{Node, until};

fn devices(node: &mut Node) -> Vec<Value> {
    node.ok(json!({"command": "devices"}))["devices"].as_array().expect("devices").clone()
}

#[test]
fn a_second_device_shares_communities_and_personal_facts() {
    let folders = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let mut phone = Node::start(folders[0].path());
    assert!(phone.error(json!({"command": "link_device"})).contains("found or join a community first"));
    phone.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
    phone.ok(json!({"command": "say", "text": "before"}));
    phone.ok(json!({"command": "setting", "name": "theme", "value": "dark"}));

    let code = phone.ok(json!({"command": "link_device"}));
    assert_eq!(code["words"].as_str().expect("words").split(' ').count(), 12);
    assert_eq!(phone.ok(json!({"command": "link_status"}))["state"], json!("waiting"));
    let mut laptop = Node::start(folders[1].path());
    assert!(laptop.error(json!({"command": "become_device", "code": "twelve words"})).contains("word"));
    let linked = laptop.ok(json!({"command": "become_device", "code": code["link"]}));
    assert_eq!(linked["device"], json!("Ana"));
    until("the code was used", || phone.ok(json!({"command": "link_status"}))["state"] == json!("linked"));
    until("the words", || laptop.messages_if_any() == ["before"]);
    until("a personal setting", || {
        let answer = laptop.call(json!({"command": "setting", "name": "theme"}));
        answer["ok"]["value"] == json!("dark")
    });
    laptop.ok(json!({"command": "say", "text": "from the laptop"}));
    until("the words", || phone.messages() == ["before", "from the laptop"]);
    let members = phone.ok(json!({"command": "members"}));
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1), "one person: {members}");
    assert_eq!(devices(&mut phone).len(), 2);

    // It has a life of its own: restarted, with the phone gone.
    laptop.restart(folders[1].path());
    until("still in", || laptop.messages_if_any().len() == 2);
    laptop.ok(json!({"command": "setting", "name": "theme", "value": "light"}));
    until("the phone follows", || {
        phone.ok(json!({"command": "setting", "name": "theme"}))["value"] == json!("light")
    });
    // Whoever belongs to somebody cannot become somebody else's.
    let code = phone.ok(json!({"command": "link_device"}));
    let used = laptop.error(json!({"command": "become_device", "code": code["words"]}));
    assert!(used.contains("in a community already"), "{used}");

    // Stolen: revoked from the phone, and out.
    let stolen = devices(&mut phone).into_iter().find(|device| device["this"] == json!(false));
    let stolen = stolen.expect("the laptop")["device"].clone();
    let revoked = phone.ok(json!({"command": "revoke_device", "device": stolen}));
    assert_eq!(revoked["communities"], json!(2), "the garden and the private one");
    until("cut off", || devices(&mut phone).len() == 1);
    phone.ok(json!({"command": "say", "text": "alone again"}));
    assert!(
        phone.error(json!({"command": "revoke_device", "device": "nobody"})).contains("none of your devices")
    );
}

#[test]
fn the_phrase_brings_a_person_back_who_lost_all_devices() {
    let folders = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let mut ana = Node::start(folders[0].path());
    ana.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
    let ticket = ana.ok(json!({"command": "invite"}))["ticket"].clone();
    let mut ben = Node::start(folders[1].path());
    ben.ok(json!({"command": "join", "name": "Ben", "ticket": ticket}));
    ben.ok(json!({"command": "say", "text": "hello Ana"}));
    until("the words", || ana.messages() == ["hello Ana"]);
    let phrase = ben.ok(json!({"command": "phrase"}))["phrase"].clone();
    drop(ben);

    let mut back = Node::start(folders[2].path());
    let wrong = vec!["abandon"; 24].join(" ");
    let come =
        |phrase: &Value| json!({"command": "come_back", "name": "Ben", "phrase": phrase, "ticket": ticket});
    assert!(back.error(come(&json!(wrong))).contains("no recovery phrase"));
    let returned = back.ok(come(&phrase));
    assert_eq!(returned["communities"], json!(1));
    until("the words", || back.messages_if_any() == ["hello Ana"]);
    back.ok(json!({"command": "say", "text": "I am back"}));
    until("the words", || ana.messages() == ["hello Ana", "I am back"]);
    let members = ana.ok(json!({"command": "members"}));
    assert_eq!(members["members"].as_array().map(Vec::len), Some(2), "no third person: {members}");
    // The lost device is taken out, by the phrase.
    let lost = devices(&mut back).into_iter().find(|device| device["this"] == json!(false));
    let lost = lost.expect("the lost one")["device"].clone();
    let revoked = back.ok(json!({"command": "revoke_device", "device": lost, "phrase": phrase}));
    assert_eq!(revoked["communities"], json!(1));
    until("one device", || devices(&mut back).len() == 1);
}

#[test]
fn a_restored_backup_asks_to_be_let_in_until_a_member_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let (ana_home, ben_home) = (at("ana"), at("ben"));
    let mut ana = Node::start(&ana_home);
    ana.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
    let ticket = ana.ok(json!({"command": "invite"}))["ticket"].clone();
    let mut ben = Node::start(&ben_home);
    ben.ok(json!({"command": "join", "name": "Ben", "ticket": ticket}));
    ben.ok(json!({"command": "say", "text": "hello Ana"}));
    until("the words", || ana.messages() == ["hello Ana"]);
    let phrase = ben.ok(json!({"command": "phrase"}))["phrase"].as_str().expect("a phrase").to_owned();
    drop(ben);
    let (backup, words, new) = (text(&at("ben.exo")), text(&at("words")), at("new"));
    std::fs::write(&words, phrase).expect("written");
    let done = |arguments: &[&str]| {
        let output = common::run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    done(&["backup", &backup, "--no-passphrase", "--data", &text(&ben_home)]);
    done(&["restore", &backup, "--phrase-file", &words, "--data", &text(&new)]);

    // Nobody is there: it reads, says why it does not write, and goes on asking.
    drop(ana);
    let mut back = Node::start(&new);
    assert_eq!(back.messages(), ["hello Ana"]);
    assert!(back.error(json!({"command": "say", "text": "too early"})).contains("member"));
    let status = |node: &mut Node| node.ok(json!({"command": "communities"}))["communities"][0].clone();
    until("it says that nobody answers", || status(&mut back)["join"]["state"] == json!("trying"));
    let mut ana = Node::start(&ana_home);
    until("a member let it in", || {
        back.call(json!({"command": "say", "text": "I am back"}))["ok"] != json!(null)
    });
    until("the words", || ana.messages() == ["hello Ana", "I am back"]);
    let members = ana.ok(json!({"command": "members"}));
    assert_eq!(members["members"].as_array().map(Vec::len), Some(2), "no third person: {members}");
}
