//! The whole public surface on one page.

use actix_web::{middleware, web};

use super::limits::Limiters;
use super::{Deps, edge, problem};

/// Everything that merchants, students and providers may ask. Call it once and hand a clone to each
/// worker: limits and caches are shared.
pub fn public(deps: Deps) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let limiters = Limiters::new(&deps.settings.limits);
    public_with(deps, limiters)
}

/// The same with limits that the caller keeps, to call [`Limiters::upkeep`] now and then.
pub fn public_with(
    deps: Deps,
    limiters: Limiters,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let deps = web::Data::new(deps);
    let limiters = web::Data::new(limiters);
    move |config| {
        config.app_data(deps.clone()).app_data(limiters.clone());
        config.service(
            web::scope("")
                .wrap(middleware::from_fn(edge::edge))
                .default_service(web::route().to(problem::nowhere)),
        );
    }
}
