//! Jobs that wait for a place: first come first served within a tenant, tenants in turn.

use crate::{SequenceId, job::Job};
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// Waiting jobs by tenant, then by age. A preempted job is older than those that never ran, and
/// so stands before them.
#[derive(Default)]
pub(crate) struct Queue {
    tenants: BTreeMap<Arc<str>, BTreeMap<SequenceId, Job>>,
    /// Whose job was admitted last.
    served: Option<Arc<str>>,
}

impl Queue {
    pub(crate) fn push(&mut self, job: Job) {
        let replaced = self.tenants.entry(job.tenant.clone()).or_default().insert(job.id, job);
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
        let job = jobs.remove(&id);
        if jobs.is_empty() {
            self.tenants.remove(tenant);
        }
        job
    }

    /// The next `count` jobs to admit: every tenant's first, starting behind the tenant served
    /// last, then every tenant's second, and so on.
    pub(crate) fn next(&self, count: usize) -> Vec<&Job> {
        let served = self.served.as_deref();
        let from = served.map_or(Bound::Unbounded, Bound::Excluded);
        let to = served.map_or(Bound::Excluded(""), Bound::Included);
        let after = self.tenants.range::<str, _>((from, Bound::Unbounded));
        let ring = after.chain(self.tenants.range::<str, _>((Bound::Unbounded, to)));
        let mut lanes: Vec<_> = ring.map(|(_, jobs)| jobs.values()).collect();
        let mut next = Vec::new();
        while next.len() < count && !lanes.is_empty() {
            lanes.retain_mut(|lane| {
                next.extend(lane.next().filter(|_| next.len() < count));
                lane.len() > 0
            });
        }
        next
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
