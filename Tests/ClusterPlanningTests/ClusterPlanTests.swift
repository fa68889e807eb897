// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import JobSpecification
import Testing

@testable import ClusterPlanning

@Suite("Plans of clusters") struct ClusterPlanTests {
    private static func host(count: Int, memory: Int = 512 << 30) -> HostSpecification {
        HostSpecification(
            count: count, cores: 32, memoryByteCount: memory, readBandwidth: 200e9, fp32Products: 1500e9,
            bf16Products: 3000e9, networkBandwidth: 25e9 / 8, latency: 30e-6)
    }

    private static func job(_ kind: String, prompts: Int, replicas: Int = 1, cache: String = "8GiB") throws -> Job {
        let training = "method: grpo\nsteps: 1\nrows_per_step: \(prompts)\ncell_tokens: 4096\n"
        return try Job.parse(
            """
            kind: \(kind)
            name: plan
            model: {path: m, compute: bf16\(kind == "train" ? "" : ", replicas: \(replicas)")}
            data: {path: d\(kind == "train" ? "" : ", limit: \(prompts)")}
            group_size: 4
            sampling: {temperature: 1.0, max_new_tokens: 512}
            reward: [math_answer]
            resources: {kv_cache_bytes: \(cache), max_sequences: 32}
            output: o

            """ + (kind == "train" ? training : ""))
    }

    private static func plan(
        _ preset: ModelPreset, _ workers: Int, kind: String = "rollout", prompts: Int = 64, replicas: Int = 1,
        skew: Double = 0, change: (inout HostSpecification) -> Void = { _ in }
    ) throws -> ClusterPlan {
        var host = host(count: workers)
        change(&host)
        var request = try PlanningRequest(
            configuration: preset.configuration(), model: preset.rawValue,
            job: job(kind, prompts: prompts, replicas: replicas), hosts: [host], promptTokens: 128, responseTokens: 256)
        request.skew = skew
        return try ClusterPlan(request)
    }

    @Test("one dense worker reads its weights once per pass: the roofline by hand")
    func roofline() throws {
        let preset = ModelPreset.qwen3_0_6B
        var host = Self.host(count: 1)
        host.generationEfficiency = 1
        host.layerOverhead = 0
        host.tokenOverhead = 0
        var request = try PlanningRequest(
            configuration: preset.configuration(), model: "m", job: Self.job("rollout", prompts: 1), hosts: [host],
            promptTokens: 128, responseTokens: 256)
        request.responseSpread = 0
        let plan = try ClusterPlan(request)
        // 0.6B: 440 M weights in layers, 156 M in the head, 2 bytes each; 4 sequences of 256 tokens of cache on average.
        let weights = 596_049_920.0 - 28 * (2 * 1024 + 2 * 128) - 1024
        let cache = 4.0 * 256 * 28 * 2 * 8 * 128 * 2
        let pass = (weights * 2 + cache) / 200e9
        let prompt = 2 * (weights - 155_582_464) * 128 / 3000e9
        #expect(abs(plan.phases[0].seconds / (256 * pass + prompt) - 1) < 0.02, "\(plan.phases[0])")
        // Decoding is bound by memory; products alone bound the prompt.
        #expect(abs(plan.phases[0].parts.compute / prompt - 1) < 0.05, "\(plan.phases[0])")
        #expect(plan.wireByteCount == 0 && plan.phases[0].tokens == 4 * 256)
    }

    @Test("the same request gives the same plan")
    func determinism() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let plans = try (0..<2).map { _ in try encoder.encode(try Self.plan(.qwen3_30B_A3B, 8, kind: "train")) }
        #expect(plans[0] == plans[1])
    }

    @Test("more workers are not slower where products bound the step, and each needs less memory")
    func scaling() throws {
        for (preset, kind) in [(ModelPreset.qwen3_1_7B, "train"), (.qwen3_1_7B, "rollout"), (.qwen3_30B_A3B, "train")] {
            let plans = try [8, 16, 32].map { try Self.plan(preset, $0, kind: kind, prompts: 512) }
            for (fewer, more) in zip(plans, plans.dropFirst()) {
                #expect(more.seconds <= fewer.seconds * 1.001, "\(preset.rawValue) \(kind) \(more.workerCount)")
                #expect(more.memoryByteCount <= fewer.memoryByteCount)
            }
            if preset == .qwen3_30B_A3B { #expect(plans[2].memoryByteCount < plans[0].memoryByteCount * 6 / 10) }
        }
    }

    @Test("faster memory, products and network never make a plan slower")
    func hardware() throws {
        let base = try Self.plan(.qwen3_30B_A3B, 8, kind: "train")
        let changes: [(inout HostSpecification) -> Void] = [
            { $0.readBandwidth *= 2 }, { $0.bf16Products *= 2 }, { $0.networkBandwidth *= 2 }, { $0.latency /= 2 },
        ]
        for change in changes {
            #expect(try Self.plan(.qwen3_30B_A3B, 8, kind: "train", change: change).seconds <= base.seconds * 1.001)
        }
        let slow = try Self.plan(.qwen3_30B_A3B, 8) { $0.networkBandwidth /= 100 }
        #expect(slow.seconds > (try Self.plan(.qwen3_30B_A3B, 8)).seconds * 2)
    }

    @Test("a dense model has no expert traffic; an MoE sends each token to the owners of its experts")
    func wire() throws {
        #expect(try Self.plan(.qwen3_1_7B, 4).wireByteCount == 0)
        let plan = try Self.plan(.qwen3_30B_A3B, 4)
        // 8 of 128 experts on 4 workers: nearly every token visits all three others in each of 48 layers, with 4 KiB,
        // and gets at least 8 KiB back from each.
        let tokens = Double(plan.phases[0].tokens + 64 * 128)
        let least = tokens * 48 * 3 * 0.85 * (4096 + 8192)
        #expect(plan.wireByteCount > least && plan.wireByteCount < least * 2, "\(plan.wireByteCount / least)")
    }

    @Test("uneven routing is seen as a hot spot and costs time; replicas of experts mend it")
    func skew() throws {
        let even = try Self.plan(.qwen3_30B_A3B, 16, prompts: 128)
        let skewed = try Self.plan(.qwen3_30B_A3B, 16, prompts: 128, skew: 1.2)
        func busiest(_ plan: ClusterPlan) -> Double {
            plan.hotSpots.first { $0.what.contains("most expert rows") }?.factor ?? 0
        }
        #expect(busiest(skewed) > busiest(even) * 1.5)
        #expect(skewed.seconds > even.seconds)
        #expect(busiest(try Self.plan(.qwen3_30B_A3B, 16, prompts: 128, replicas: 8, skew: 1.2)) < busiest(skewed))
    }

    @Test("what does not fit is refused in one line that says how much is missing")
    func refusals() throws {
        func problem(_ body: () throws -> Void) -> String? {
            do { try body() } catch { return "\(error)" }
            return nil
        }
        let memory = problem { _ = try Self.plan(.qwen3_235B_A22B, 2) { $0.memoryByteCount = 128 << 30 } }
        #expect(memory?.contains("GiB short") == true && memory?.contains("experts") == true, "\(memory ?? "fits")")
        #expect(memory?.contains("\n") == false)
        let cache = problem {
            let request = try PlanningRequest(
                configuration: ModelPreset.qwen3_8B.configuration(), model: "m",
                job: Self.job("rollout", prompts: 1, cache: "1MiB"), hosts: [Self.host(count: 1)], promptTokens: 128)
            _ = try ClusterPlan(request)
        }
        #expect(cache?.contains("of key/value cache") == true, "\(cache ?? "fits")")
        let long = problem {
            _ = try PlanningRequest(
                configuration: ModelPreset.tinyDense.configuration(), model: "m", job: Self.job("rollout", prompts: 1),
                hosts: [Self.host(count: 1)], promptTokens: 4000)
        }
        #expect(long?.contains("context") == true, "\(long ?? "fits")")
    }

    @Test("second models are refused by their key, tools are named as left out")
    func secondModels() throws {
        func request(_ more: String, _ head: String = "kind: rollout") throws -> PlanningRequest {
            let job = """
                \(head)
                name: plan
                model: {path: m}
                data: {path: d}
                sampling: {temperature: 1.0, max_new_tokens: 64}
                reward: [math_answer]
                output: o
                \(more)
                """
            return try PlanningRequest(
                configuration: ModelPreset.qwen3_0_6B.configuration(), model: "m", job: try Job.parse(job),
                hosts: [Self.host(count: 1)], promptTokens: 32)
        }
        func key(_ more: String, _ head: String = "kind: rollout") -> String? {
            do { _ = try request(more, head) } catch let error as PlanningError {
                return error.description
            } catch { return "another error: \(error)" }
            return nil
        }
        #expect(key("teacher: {path: t}")?.hasPrefix("teacher:") == true)
        #expect(key("loss: {kl_coef: 0.1}", "kind: train\nmethod: grpo\nsteps: 1")?.hasPrefix("loss.kl_coef:") == true)
        #expect(key("") == nil)
        #expect(try request("").leftOut == ["rewards"])
        #expect(
            try request("environment: {tools: [calculator]}").leftOut.last?.contains("tools") == true)
    }

    @Test("a thousand workers are planned in seconds, and hosts without experts are told")
    func thousand() throws {
        let start = ContinuousClock.now
        let plan = try Self.plan(.qwen3_235B_A22B, 1000, prompts: 1000)
        #expect(start.duration(to: .now) < .seconds(60))
        #expect(plan.hotSpots.contains { $0.what.hasPrefix("872 workers hold no expert") }, "\(plan.hotSpots)")
    }

    @Test("a hosts file reads back, and its mistakes are named by line")
    func hosts() throws {
        let hosts = [Self.host(count: 3), Self.host(count: 1, memory: 64 << 30)]
        let read = try HostSpecification.parse(HostSpecification.yaml(hosts))
        #expect(read.count == 2 && read[0].count == 3 && read[1].memoryByteCount == 64 << 30)
        #expect(abs(read[0].networkBandwidth / hosts[0].networkBandwidth - 1) < 1e-3)
        let bad = """
            hosts:
              - count: 2
                cores: 4
                memory: 8GiB
                bandwidth: 20
            """
        #expect(throws: JobError.self) { _ = try HostSpecification.parse(bad) }
        do { _ = try HostSpecification.parse(bad) } catch {
            #expect("\(error)".contains("bandwidth") && "\(error)".contains("5"), "\(error)")
        }
    }
}
