//! Plans a night's removals in advance, to stop if they exceed half of all backups.

use super::night::Night;
use super::select::Selection;
use crate::config::Config;
use crate::events::Severity;
use crate::outside::host;
use crate::run::prune::{self, Shelf, Standing};
use crate::store::retention::{Now, Occasion, Plan, Refusal, brake};

impl Night<'_> {
    /// Whether anything may be removed tonight.
    pub(super) fn check_brake(&self, selection: &Selection, shelves: &[Shelf], existing: &[String]) -> bool {
        let plans =
            forecasts(self.config, selection, shelves, existing, prune::now(self.world.clock.now()), self.is_whole());
        match brake(&plans) {
            Some(refusal @ Refusal::TooMany { .. }) if !self.options.force => {
                self.tell(Severity::Warning, "retention", refusal.to_string());
                false
            }
            _ => true,
        }
    }
}

/// The plans of all sources in advance, for the brake: removals after a new backup of each chosen volume, and for
/// gone volumes.
pub(super) fn forecasts(
    config: &Config,
    selection: &Selection,
    shelves: &[Shelf],
    existing: &[String],
    now: Now,
    is_whole: bool,
) -> Vec<Plan> {
    let host = host::name();
    let occasion = |shelf: &Shelf| {
        let is_chosen = selection.chosen.iter().any(|one| one.facts.lv == shelf.name);
        match shelf.standing(&host, existing) {
            _ if is_chosen => Occasion::Forecast,
            Standing::Gone if is_whole => Occasion::Gone,
            _ => Occasion::NothingNew,
        }
    };
    prune::plans_of(&shelves.iter().collect::<Vec<_>>(), config, now, occasion)
}
