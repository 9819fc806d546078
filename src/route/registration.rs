//! Which broker has which shard. The name that registers first gets one; from then on the shard belongs to the data directory
//! in which its messages lie, and another one under the same name is refused: it would answer for messages that it never had.

use std::sync::Arc;

use crate::model::cluster::{HolderId, Shard};
use crate::model::settings::CatalogError;
use crate::route::change::{Change, Numbers};
use crate::route::state::{Decision, Outcome, State};
use crate::route::version;

impl State {
    pub(super) fn register(
        &self,
        name: &str,
        address: &str,
        version: &str,
        holder: Option<HolderId>,
    ) -> Result<Decision, CatalogError> {
        if name.is_empty() || name.len() > 255 || address.is_empty() || address.len() > 512 || version.len() > 64 {
            return Err(CatalogError::Invalid(
                "a broker registers with a name of 1 to 255 bytes and the address of its internal port".to_owned(),
            ));
        }
        if let Some(words) = version::refusal(version, version::OWN) {
            return Err(CatalogError::Invalid(words));
        }
        if let Some(known) = self.shard_named(name) {
            if let Some(words) = held(known, holder) {
                return Err(CatalogError::Held(words));
            }
            // A program that does not tell takes nothing away: the next one that tells is compared all the same.
            let holder = holder.or(known.holder);
            let shard = Shard { address: address.into(), version: version.into(), holder, ..Shard::clone(known) };
            let put = (shard != **known).then(|| Change::ShardPut(Arc::new(shard)));
            let outcome = Outcome::Registered(known.id, self.numbers.cluster);
            return Ok(Decision { changes: put.into_iter().collect(), outcome });
        }
        let id = self.numbers.shard;
        let shard = Shard {
            id,
            name: name.into(),
            address: address.into(),
            version: version.into(),
            alive: false,
            draining: false,
            holder,
        };
        let numbers = Numbers { shard: id.next(), ..self.numbers.clone() };
        let mut made = vec![Change::Numbers(numbers), Change::ShardPut(Arc::new(shard))];
        made.extend(self.dead_letters_with(id));
        Ok(Decision { changes: made, outcome: Outcome::Registered(id, self.numbers.cluster) })
    }

    pub(super) fn forget(&self, name: &str) -> Result<Vec<Change>, CatalogError> {
        let known = self.shard_named(name).ok_or_else(|| CatalogError::NotFound(format!("broker {name}")))?;
        if known.alive {
            return Err(CatalogError::Held(format!(
                "broker {name} runs at {}, or did so a few seconds ago: what lies on it is not lost. Stop it first, if it \
                 is to be given up",
                known.address
            )));
        }
        let shard = Shard { holder: None, ..Shard::clone(known) };
        Ok(known.holder.map(|_| Change::ShardPut(Arc::new(shard))).into_iter().collect())
    }
}

/// Why a data directory does not get a shard; `None`: it does.
fn held(known: &Shard, holder: Option<HolderId>) -> Option<String> {
    let (theirs, ours) = (known.holder?, holder?);
    let Shard { id, name, address, .. } = known;
    if theirs == ours {
        return None;
    }
    Some(if known.alive {
        format!(
            "a broker named {name} runs already at {address} (or did so a few seconds ago), with another data directory: give \
             this one a name of its own by --name, or stop the other one and start this name with the other one's directory"
        )
    } else {
        format!(
            "the messages of broker {name} (shard {id}) lie in another data directory, and this one would answer for them \
             without having them: start {name} with the directory or volume that it had, or give this broker a name of its \
             own by --name. If the messages are lost for good: bolide admin broker forget {name}, then start again"
        )
    })
}
