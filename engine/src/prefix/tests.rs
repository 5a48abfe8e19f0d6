//! The trie against a plain map from whole prefixes to pages.

use super::Prefixes;
use kernels::PageId;
use models::TokenId;
use std::{collections::BTreeMap, sync::Arc};

/// A prefix of whole pages, and whose it is.
type Prefix = (usize, Vec<TokenId>);

/// The naive twin: every prefix that can be found, with its last page.
#[derive(Default)]
struct Naive(BTreeMap<Prefix, PageId>);

impl Naive {
    fn find(&self, tenant: usize, tokens: &[TokenId], page_rows: usize) -> Vec<PageId> {
        let prefixes = (page_rows..=tokens.len()).step_by(page_rows);
        prefixes.map_while(|n| self.0.get(&(tenant, tokens[..n].to_vec())).copied()).collect()
    }

    fn publish(&mut self, tenant: usize, tokens: &[TokenId], page_rows: usize, pages: &[PageId]) {
        for (n, &page) in (page_rows..=tokens.len()).step_by(page_rows).zip(pages) {
            self.0.entry((tenant, tokens[..n].to_vec())).or_insert(page);
        }
    }

    /// What began with a removed prefix is not found any more either.
    fn remove(&mut self, page: PageId) {
        let Some(((of, gone), _)) = self.0.iter().find(|(_, held)| **held == page) else { return };
        let (of, gone) = (*of, gone.clone());
        self.0.retain(|(tenant, tokens), _| *tenant != of || !tokens.starts_with(&gone));
    }
}

#[test]
fn finds_what_a_plain_map_finds() {
    for seed in 0..300_u64 {
        let mut drawn = seed << 32;
        let mut below = |n: u64| {
            drawn = drawn.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (drawn >> 33) % n
        };
        let page_rows = 1 + below(3) as usize;
        let tenants: [Arc<str>; 2] = ["a".into(), "b".into()];
        let (mut prefixes, mut naive) = (Prefixes::new(page_rows), Naive::default());
        let mut pages = (0..).map(PageId);
        for now in 0..60 {
            let tenant = below(2) as usize;
            // Two tokens and short texts: many share a beginning.
            let tokens: Vec<TokenId> = (0..below(9)).map(|_| below(2) as TokenId).collect();
            match below(3) {
                0 => {
                    let own: Vec<PageId> = pages.by_ref().take(tokens.len() / page_rows).collect();
                    let entered = prefixes.publish(&tenants[tenant], &tokens, &own, now);
                    naive.publish(tenant, &tokens, page_rows, &own);
                    assert!(entered.iter().all(|page| own.contains(page)), "seed {seed}");
                }
                1 => {
                    let oldest = prefixes.iter().min_by_key(|(_, e)| e.used_at).map(|(id, _)| id);
                    if let Some(id) = oldest {
                        naive.remove(prefixes.remove(id));
                    }
                }
                _ => {}
            }
            let found = prefixes.find(&tenants[tenant], &tokens);
            let found: Vec<PageId> = found.into_iter().map(|(_, page)| page).collect();
            assert_eq!(found, naive.find(tenant, &tokens, page_rows), "seed {seed}");
            prefixes.check_integrity();
        }
    }
}
