// SPDX-License-Identifier: Apache-2.0

/// Mistakes that the simulation must find: each is one a protocol like ours could really have. Nil in every process.
package enum PlantedFault: String, CaseIterable, Sendable {
    // In the process around the reducers.
    /// Acknowledgements leave before the journal is synced.
    case acknowledgesBeforeSync
    /// The disk says synced and is not: the last commit is gone after a crash.
    case diskLiesAboutSync
    // In the coordinator.
    /// A record that comes twice is recorded twice.
    case recordsTwice
    /// The leases of a dead worker stay its own.
    case deadKeepLeases
    /// A grant that a broken connection swallowed is never missed.
    case lostGrantsAreNotMissed
    /// A unit may kill workers for ever.
    case poisonIsEndless
    /// A worker that comes back over a new connection is not told again what it should hold.
    case returnersAreNotTold
    /// Routes follow what workers should hold, not what they do.
    case routesFollowTargets
    /// A job is finished once all its work is given out.
    case finishesEarly
    /// A restarted coordinator keeps the epoch of its earlier life.
    case epochStays
    // In the worker.
    /// A record is sent once.
    case recordsAreSentOnce
    /// Hello is said once.
    case helloIsSaidOnce
}
