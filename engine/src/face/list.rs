//! List: the objects of a pool as a stream, page by page.
//!
//! Cancel safety: a `next` that is dropped loses nothing; the page that it waited for is waited for by the following one.
//! Cost: a page is 512 objects; one is in memory at a time.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use futures::future::BoxFuture;
use seabed_object::ObjectId;

use crate::Result;
use crate::face::store::Pool;
use crate::operate::listing::ListPage;

/// Objects of a page.
const PAGE: usize = 512;

/// The objects of a pool, in the order of objects; see [`Pool::list`]. An interval of names that is damaged is an error behind the
/// objects of its page, after which the stream goes on; it ends after any other error.
pub struct List {
    pool: Pool,
    page: std::vec::IntoIter<Result<ObjectId>>,
    next: Next,
}

enum Next {
    /// The page that begins with this object is not asked for yet.
    From(Option<ObjectId>),
    Coming(BoxFuture<'static, Result<ListPage>>),
    End,
}

impl List {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool, page: Vec::new().into_iter(), next: Next::From(None) }
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Stream for List {
    type Item = Result<ObjectId>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(object) = self.page.next() {
                return Poll::Ready(Some(object));
            }
            let this = &mut *self;
            match &mut this.next {
                Next::End => return Poll::Ready(None),
                Next::From(from) => {
                    let (pool, from) = (this.pool.clone(), from.take());
                    let page = async move { pool.list_page(from, PAGE).await };
                    this.next = Next::Coming(Box::pin(page));
                }
                Next::Coming(page) => match ready!(page.as_mut().poll(context)) {
                    Ok(page) => {
                        this.next = page.next.map_or(Next::End, |next| Next::From(Some(next)));
                        let damaged = page.damaged.into_iter().map(|damaged| Err(damaged.error));
                        this.page =
                            page.objects.into_iter().map(Ok).chain(damaged).collect::<Vec<_>>().into_iter();
                    }
                    Err(error) => {
                        this.next = Next::End;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
            }
        }
    }
}
