//! Jobs that wait for a place: tenants in turn; a tenant's most urgent first, and first come first
//! served among those.

use crate::{Priority, SequenceId, job::Job};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    iter,
    ops::Bound,
    sync::Arc,
};

/// One tenant's.
type Line = BTreeMap<(Reverse<Priority>, SequenceId), Job>;

/// Waiting jobs by tenant, then by priority and age. A preempted job is older than those that never
/// ran, and so stands before them.
#[derive(Default)]
pub(crate) struct Queue {
    tenants: BTreeMap<Arc<str>, Line>,
    /// Whose job was admitted last.
    served: Option<Arc<str>>,
}

impl Queue {
    pub(crate) fn push(&mut self, job: Job) {
        let place = (Reverse(job.priority), job.id);
        let replaced = self.tenants.entry(job.tenant.clone()).or_default().insert(place, job);
        assert!(replaced.is_none(), "a job waits once");
    }

    /// Takes a job out to run: its tenant has had its turn.
    pub(crate) fn admit(&mut self, tenant: &Arc<str>, id: SequenceId) -> Job {
        self.served = Some(tenant.clone());
        self.remove(tenant, id).expect("an admitted job was waiting")
    }

    /// Takes a job out.
    pub(crate) fn remove(&mut self, tenant: &Arc<str>, id: SequenceId) -> Option<Job> {
        let jobs = self.tenants.get_mut(tenant)?;
        let job = Priority::ALL.iter().find_map(|&priority| jobs.remove(&(Reverse(priority), id)));
        if jobs.is_empty() {
            self.tenants.remove(tenant);
        }
        job
    }

    /// Jobs in the order in which they are to be admitted: every tenant's first, starting behind the
    /// tenant served last, then every tenant's second, and so on.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Job> {
        let served = self.served.as_deref();
        let from = served.map_or(Bound::Unbounded, Bound::Excluded);
        let to = served.map_or(Bound::Excluded(""), Bound::Included);
        let after = self.tenants.range::<str, _>((from, Bound::Unbounded));
        let ring = after.chain(self.tenants.range::<str, _>((Bound::Unbounded, to)));
        let mut lanes: VecDeque<_> = ring.map(|(_, jobs)| jobs.values()).collect();
        iter::from_fn(move || {
            let mut lane = lanes.pop_front()?;
            let job = lane.next()?;
            lanes.extend((lane.len() > 0).then_some(lane));
            Some(job)
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.tenants.values().flat_map(BTreeMap::values)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Job> {
        self.tenants.values_mut().flat_map(BTreeMap::values_mut)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}
