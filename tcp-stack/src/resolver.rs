//! Answers what names are asked for, with addresses that stand for them. Nothing is asked of anybody.

use std::net::{Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::names::{self, Names};

/// How long an answer may be kept (seconds). A name keeps its addresses as long as the program has its network.
const KEPT: u32 = 3600;
/// The longest name (bytes, RFC 1035 without the final dot). Fixed by the wire.
const LONGEST_NAME: usize = 253;

/// The answer to a question; none for what is no question.
pub(crate) fn answer(question: &[u8], names: &mut Names) -> Option<Vec<u8>> {
    let asked = Packet::parse(question).ok()?;
    if asked.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    let mut told = Packet::new_reply(asked.id());
    *told.opcode_mut() = asked.opcode();
    told.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if asked.has_flags(PacketFlag::RECURSION_DESIRED) {
        told.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    *told.rcode_mut() = RCODE::NoError;
    match asked.questions.as_slice() {
        _ if asked.opcode() != OPCODE::StandardQuery => *told.rcode_mut() = RCODE::NotImplemented,
        [question] if matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY) => {
            told.questions.push(question.clone());
            match addresses(&question.qname, question.qtype, names) {
                Ok(found) => {
                    let record = |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, KEPT, data);
                    told.answers.extend(found.map(record));
                }
                Err(code) => *told.rcode_mut() = code,
            }
        }
        [_] => *told.rcode_mut() = RCODE::Refused,
        _ => *told.rcode_mut() = RCODE::FormatError,
    }
    told.build_bytes_vec_compressed().ok()
}

/// What is told of a name: an address of the kind that was asked for, or nothing for other kinds.
fn addresses(name: &Name<'_>, kind: QTYPE, names: &mut Names) -> Result<Option<RData<'static>>, RCODE> {
    let Some(name) = plain(name) else { return Err(RCODE::NameError) };
    let v4 = matches!(kind, QTYPE::TYPE(TYPE::A) | QTYPE::ANY);
    if !v4 && !matches!(kind, QTYPE::TYPE(TYPE::AAAA)) {
        return Ok(None);
    }
    let (one, other) = if name == "localhost" || name.ends_with(".localhost") {
        // The program's own.
        (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
    } else {
        // Whoever has too many names gets no more.
        let number = names.number_of(&name).ok_or(RCODE::ServerFailure)?;
        (names::v4(number), names::v6(number))
    };
    Ok(Some(if v4 {
        RData::A(A { address: one.into() })
    } else {
        RData::AAAA(AAAA { address: other.into() })
    }))
}

/// A name in lower case, if it can be a host's and is none of an address.
fn plain(name: &Name<'_>) -> Option<String> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut text = String::new();
    for label in name.as_bytes() {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(std::str::from_utf8(label).ok().filter(|_| label.iter().all(is_plain))?);
    }
    text.make_ascii_lowercase();
    // A last label that begins with a digit makes an address of the whole, in one spelling or another.
    let last = text.rsplit('.').next()?;
    let fits = text.len() <= LONGEST_NAME && !last.starts_with(|first: char| first.is_ascii_digit());
    (fits && !last.is_empty() && last != "arpa").then_some(text)
}

#[cfg(test)]
mod tests {
    use simple_dns::Question;

    use super::*;

    fn ask(name: &str, kind: QTYPE, names: &mut Names) -> (RCODE, Vec<String>) {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(
            Name::new_unchecked(name),
            kind,
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        let told = answer(&packet.build_bytes_vec().unwrap(), names).unwrap();
        let told = Packet::parse(&told).unwrap();
        assert!(told.id() == 7 && told.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED));
        assert_eq!(told.questions.len(), 1);
        let addresses = told.answers.iter().map(|record| match &record.rdata {
            RData::A(A { address }) => Ipv4Addr::from(*address).to_string(),
            RData::AAAA(AAAA { address }) => Ipv6Addr::from(*address).to_string(),
            other => format!("{other:?}"),
        });
        (told.rcode(), addresses.collect())
    }

    #[test]
    fn names_get_addresses_that_stay_and_nothing_else_is_told() {
        let mut names = Names::new(3);
        let v4 = QTYPE::TYPE(TYPE::A);
        let v6 = QTYPE::TYPE(TYPE::AAAA);
        for (name, kind, code, address) in [
            ("a.test", v4, RCODE::NoError, "198.18.0.1"),
            ("A.Test", v6, RCODE::NoError, "fdc0:de00::1"),
            ("db", v4, RCODE::NoError, "198.18.0.2"),
            ("a.test", QTYPE::TYPE(TYPE::MX), RCODE::NoError, ""),
            ("a.test", QTYPE::ANY, RCODE::NoError, "198.18.0.1"),
            ("localhost", v4, RCODE::NoError, "127.0.0.1"),
            ("x.localhost", v6, RCODE::NoError, "::1"),
            ("_tcp.a_b.test", v4, RCODE::NoError, "198.18.0.3"),
            ("one.more", v4, RCODE::ServerFailure, ""),
            ("1.2.3.4", v4, RCODE::NameError, ""),
            ("0x7f.1", v4, RCODE::NameError, ""),
            ("1.0.18.198.in-addr.arpa", QTYPE::TYPE(TYPE::PTR), RCODE::NameError, ""),
            ("a b.test", v4, RCODE::NameError, ""),
        ] {
            let (told, addresses) = ask(name, kind, &mut names);
            assert_eq!((told, addresses.join(" ")), (code, address.to_owned()), "{name}");
        }
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let mut names = Names::new(9);
        assert!(answer(b"", &mut names).is_none());
        assert!(answer(&[0; 11], &mut names).is_none());
        let reply = Packet::new_reply(1).build_bytes_vec().unwrap();
        assert!(answer(&reply, &mut names).is_none());
        let nothing = Packet::new_query(1).build_bytes_vec().unwrap();
        let told = answer(&nothing, &mut names).unwrap();
        assert_eq!(Packet::parse(&told).unwrap().rcode(), RCODE::FormatError);
        // Every byte of a question changed in every way.
        let mut packet = Packet::new_query(7);
        let name = Name::new_unchecked("a.test");
        packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
        let good = packet.build_bytes_vec().unwrap();
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = answer(&bytes, &mut names);
            }
        }
    }
}
