//! Members from founding to talking, everything sealed and gated.

mod home;

use home::{Person, found, meet};

#[test]
fn three_people_found_join_and_talk() {
    let (ana, ben, chloe) = (Person::new(1), Person::new(2), Person::new(3));
    let mut a = found("Ana", &ana);
    let room = a.open_channel(1, false);
    let ticket = a.invite(2);
    let mut b = a.admit("Ben", &ben, &ticket);
    assert!(b.is_member(&ben.id()), "{:?}", b.community);
    b.say(room, "hello");
    let mut c = b.admit("Chloe", &chloe, &ticket);
    c.say(room, "hi both");
    a.say(room, "welcome");
    meet(&mut [&mut a, &mut b, &mut c]);
    for home in [&a, &b, &c] {
        assert_eq!(home.read(room), ["hello", "hi both", "welcome"], "{}", home.name);
        assert_eq!(home.hash(), a.hash(), "{}", home.name);
    }
}
