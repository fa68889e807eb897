// SPDX-License-Identifier: Apache-2.0
import ClusterCore
import ClusterSimulation
import Testing

@Suite("Simulated clusters")
struct SimulationTests {
    @Test("a thousand unlucky clusters keep every promise", arguments: 0..<4)
    func promisesAreKept(part: Int) {
        for seed in (part * 250)..<(part * 250 + 250) {
            var simulation = Simulation(SimulationSettings(seed: UInt64(seed)))
            let report = simulation.run()
            #expect(report.violations.isEmpty, "seed \(seed): \(report.violations.joined(separator: "; "))")
        }
    }

    @Test("the same seed gives the same run")
    func runsAreDeterministic() {
        for seed: UInt64 in [1, 7, 42, 99] {
            var (first, second) = (
                Simulation(SimulationSettings(seed: seed)), Simulation(SimulationSettings(seed: seed))
            )
            #expect(first.run() == second.run())
        }
    }

    @Test("each planted mistake is found", arguments: PlantedFault.allCases)
    func mistakesAreFound(fault: PlantedFault) {
        for seed: UInt64 in 0..<1000 {
            var simulation = Simulation(SimulationSettings(seed: seed, fault: fault))
            if !simulation.run().violations.isEmpty { return }
        }
        Issue.record("\(fault) was not found in 1000 runs")
    }
}
