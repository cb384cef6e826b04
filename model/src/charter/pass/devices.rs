//! A person's devices: further ones, revoked ones, and those that lied.

use super::super::dag::{ActIx, Dag};
use super::{Author, Judged, Pass, Standing, entitled, not_lost};
use crate::certificate::{DeviceCertificate, Enroller};
use crate::charter::DEVICES_PER_PERSON_MAX;
use crate::event::CharterEvent;
use crate::feed::Stream;
use crate::feed::equivocation::EquivocationProof;
use crate::feed::fence::Fence;

impl Pass {
    pub(super) fn add_device(
        &mut self,
        dag: &Dag,
        number: ActIx,
        author: Author,
        certificate: &DeviceCertificate,
    ) -> Judged {
        let at = self.at(dag, number);
        entitled(at.is_member(&certificate.claims.person))?;
        entitled(match certificate.enroller {
            // Whoever carries the phrase's word may post it.
            Enroller::Phrase => true,
            Enroller::Device(signer) => {
                let enrolled = self.records.devices.get(&signer).map(|device| &device.certificate.claims);
                signer == dag.node(number).act.device
                    && certificate.claims.person == author.person
                    && certificate.check_enroller(enrolled).is_ok()
            }
        })?;
        self.refuse_known_device(dag, number, certificate)?;
        let devices =
            self.records.people.get(&certificate.claims.person).map_or(0, |person| person.devices.len());
        not_lost(devices < DEVICES_PER_PERSON_MAX)?;
        self.enrol(number, certificate);
        Ok(Standing::Counts)
    }

    pub(super) fn revoke_device(
        &mut self,
        dag: &Dag,
        number: ActIx,
        author: Author,
        event: &CharterEvent,
    ) -> Judged {
        let CharterEvent::DeviceRevoked { device, fence, phrase } = event else {
            return Err(Standing::NotEntitled);
        };
        let at = self.at(dag, number);
        let owner = at.person_of(device).ok_or(Standing::NotEntitled)?;
        let by = dag.node(number).act.device;
        entitled(fence.is_well_formed())?;
        if let Some(phrase) = phrase {
            entitled(phrase.person == owner && phrase.device == *device)?;
        } else {
            let devices = self.records.people.get(&owner).into_iter().flat_map(|person| &person.devices);
            let active = devices.filter(|device| at.person_of(device) == Some(owner)).count();
            let earlier = at.enrolment(&by) < at.enrolment(device);
            entitled(owner == author.person && active > 1 && (by == *device || earlier))?;
        }
        self.records.end_device(*device, number);
        Ok(Standing::Counts)
    }

    pub(super) fn prove_equivocation(
        &mut self,
        dag: &Dag,
        number: ActIx,
        proof: &EquivocationProof,
        fence: &Fence,
    ) -> Judged {
        let feed = proof.feed();
        let known = self.records.devices.get(&feed.device);
        let known = known.is_some_and(|device| self.at(dag, number).knows(device.enrolled));
        entitled(known && fence.is_well_formed())?;
        self.records.proofs.push(number);
        if feed.stream == Stream::Charter {
            self.records.end_device(feed.device, number);
        }
        Ok(Standing::Counts)
    }
}
