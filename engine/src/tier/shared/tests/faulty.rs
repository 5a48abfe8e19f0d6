//! Objects in memory, asked for through requests that fail in chosen ways.

use async_trait::async_trait;
use futures::{
    StreamExt as _,
    executor::block_on,
    future::pending,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, memory::InMemory, path::Path,
};
use std::{
    fmt::{self, Display, Formatter},
    future::poll_fn,
    sync::{Arc, Mutex},
    task::Poll,
};

/// What befalls a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Fault {
    #[default]
    None,
    Error,
    /// It is never answered.
    Hang,
    Panic,
    /// So many bytes of the body are missing at its end.
    Cut(usize),
    /// It is answered when so many requests are under way.
    Together(usize),
}

#[derive(Debug, Default)]
struct State {
    /// Of requests that read, and of those that write or delete.
    faults: [Fault; 2],
    counts: [usize; 2],
}

/// A store whose faults can be changed while it is in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Faulty {
    inner: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

const READ: usize = 0;
const WRITE: usize = 1;

impl Faulty {
    pub(super) fn fail_reads(&self, fault: Fault) {
        self.state.lock().unwrap().faults[READ] = fault;
    }

    pub(super) fn fail_writes(&self, fault: Fault) {
        self.state.lock().unwrap().faults[WRITE] = fault;
    }

    /// Requests so far that read, and that write or delete.
    pub(super) fn counts(&self) -> [usize; 2] {
        self.state.lock().unwrap().counts
    }

    /// An object as it is.
    pub(super) fn object(&self, path: &Path) -> Option<Vec<u8>> {
        let body = async { self.inner.get(path).await?.bytes().await };
        block_on(body).ok().map(|bytes| bytes.to_vec())
    }

    pub(super) fn set_object(&self, path: &Path, bytes: Vec<u8>) {
        block_on(self.inner.put(path, bytes.into())).unwrap();
    }

    /// Names of all objects.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.inner.list(None).map(|meta| meta.unwrap().location.to_string());
        block_on(names.collect())
    }

    /// Lets a request go on, or not.
    async fn request(&self, kind: usize) -> Result<Fault> {
        let fault = {
            let mut state = self.state.lock().unwrap();
            state.counts[kind] += 1;
            state.faults[kind]
        };
        match fault {
            Fault::Error => Err(Error::Generic { store: "faulty", source: "it is down".into() }),
            Fault::Hang => pending().await,
            Fault::Panic => panic!("a test has this thread panic"),
            Fault::Together(requests) => {
                poll_fn(|context| {
                    context.waker().wake_by_ref();
                    if self.counts()[kind] < requests { Poll::Pending } else { Poll::Ready(()) }
                })
                .await;
                Ok(fault)
            }
            Fault::None | Fault::Cut(_) => Ok(fault),
        }
    }
}

impl Display for Faulty {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("faulty objects")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, to: &Path, body: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.request(WRITE).await?;
        self.inner.put_opts(to, body, opts).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(to, opts).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        // What opens a tier is not counted.
        if options.head {
            return self.inner.get_opts(from, options).await;
        }
        let fault = self.request(READ).await?;
        let found = self.inner.get_opts(from, options).await?;
        let (meta, range) = (found.meta.clone(), found.range.clone());
        let (attributes, extensions) = (found.attributes.clone(), found.extensions.clone());
        let mut body = found.bytes().await?;
        if let Fault::Cut(bytes) = fault {
            body.truncate(body.len() - bytes);
        }
        let payload = GetResultPayload::Stream(stream::iter([Ok(body)]).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deleted = paths.then(move |path| {
            let this = this.clone();
            async move {
                let path = path?;
                this.request(WRITE).await?;
                this.inner.delete(&path).await?;
                Ok(path)
            }
        });
        deleted.boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        panic!("a store that others use is not listed");
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        panic!("a store that others use is not listed");
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        panic!("nothing is copied");
    }
}
