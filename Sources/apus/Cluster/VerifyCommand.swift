// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import CoordinatorRuntime
import Foundation
import JobSpecification
import Qwen3
import RuntimeSupport
import Tensors
import Tokenization

/// `apus verify RUN`: computes some rollouts or steps of a finished run again, in this process alone, and compares bits.
struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Compute rollouts or training steps of a finished run again and compare bits.",
        discussion: """
            Runs in this process with all experts local, so it also checks that distribution changed nothing. Of a \
            training run it takes the recorded steps again that start from the job's model or from a kept checkpoint: \
            losses, log-probs, gradient norm and the hash of all weights and moments after the step must be the same.
            """)

    @Argument(help: ArgumentHelp("A run directory.", valueName: "run"))
    var directory: String

    @Option(name: .customShort("n"), help: "Responses or steps to compute again; 0 is all.")
    var count = 8

    @Option(help: "Compute threads.")
    var threads = ProcessInfo.processInfo.activeProcessorCount

    @Option(help: "The policy's directory, where it is not where the job file says.")
    var model: String?

    private struct Record: Decodable {
        var group: Int
        var sibling: Int?
        var prompt_ids: [Int32]?
        var completion_ids: [Int32]?
        var logprobs: [Float]?
        var failed: String?
    }

    func run() throws {
        let differing = try reporting(ExitStatus.badInput) { try verify() }
        if differing > 0 { throw ExitStatus.jobFailed }
    }

    /// - Returns: how many responses differ.
    private func verify() throws -> Int {
        let run = URL(fileURLWithPath: directory)
        let job: RolloutJob
        switch try Job.read(run.appendingPathComponent("job.yaml")) {
        case .rollout(let rollout): job = rollout
        case .train(let training):
            return try StepVerification(run: run, job: training, model: model, threads: threads).verify(count: count)
        case .score: throw InputError("\(directory): a run that scores has nothing of its own to verify")
        }
        let records = try sample(run.appendingPathComponent("rollouts/records.jsonl"))
        let url = URL(fileURLWithPath: model ?? job.model.path).standardizedFileURL
        let checkpoint = try Checkpoint(directory: url)
        try checkIdentity(checkpoint, run)
        guard let compute = Tensors.ComputeType(rawValue: job.model.compute.rawValue) else {
            throw InputError("unknown compute type")
        }
        let settings = try RolloutSettings(
            job, checkpoint: checkpoint, tokenizer: Tokenizer(directory: checkpoint.directory))
        let decoder = try Qwen3Model(checkpoint, compute: compute, pool: ComputePool(threadCount: threads))
        let longest = records.map { ($0.prompt_ids?.count ?? 0) + job.sampling.maxNewTokens }.max() ?? 0
        let pageSize = job.resources.pageSize
        let pages = (longest + pageSize) / pageSize * min(records.count, 16) + 1
        let engine = GenerationEngine(
            try CachedDecoder(decoder, pageCount: pages, pageSize: pageSize), pageCount: pages, pageSize: pageSize)
        for (index, record) in records.enumerated() {
            let options = settings.options(group: record.group, sibling: record.sibling ?? 0)
            try engine.submit(
                GenerationRequest(id: UInt64(index), tokens: record.prompt_ids ?? [], task: .generate(options)))
        }
        var differing = 0
        var tokens = 0
        while !engine.isIdle {
            for result in try engine.step() {
                let record = records[Int(result.id)]
                tokens += result.tokens.count
                let isEqual =
                    result.tokens == record.completion_ids
                    && result.logProbs.map(\.bitPattern) == record.logprobs?.map(\.bitPattern)
                if !isEqual {
                    differing += 1
                    complain("group \(record.group), sibling \(record.sibling ?? 0) differs")
                }
            }
        }
        print(
            "\(records.count) responses with \(tokens) tokens computed again: "
                + (differing == 0 ? "all bits are equal" : "\(differing) differ"))
        return differing
    }

    private func checkIdentity(_ checkpoint: Checkpoint, _ run: URL) throws {
        let lineage = run.appendingPathComponent("lineage.json")
        guard let fields = try? JSONDecoder().decode([String: String].self, from: Data(contentsOf: lineage)),
            let expected = fields["policy"]
        else { throw InputError("\(lineage.path): cannot be read") }
        guard try checkpoint.identity().hexadecimal == expected else {
            throw InputError(
                "\(checkpoint.directory.path) is not the checkpoint that the run was made with; name it with --model")
        }
    }

    private func sample(_ file: URL) throws -> [Record] {
        guard let text = try? String(contentsOf: file, encoding: .utf8) else {
            throw InputError("\(file.path): cannot be read")
        }
        let lines = text.split(separator: "\n")
        let step = count == 0 ? 1 : max(1, lines.count / count)
        var records: [Record] = []
        for (index, line) in lines.enumerated() where index % step == 0 && (count == 0 || records.count < count) {
            do {
                let record = try JSONDecoder().decode(Record.self, from: Data(line.utf8))
                if record.failed == nil { records.append(record) }
            } catch { throw InputError("\(file.path):\(index + 1): is no line of a run") }
        }
        guard !records.isEmpty else { throw InputError("\(file.path): no response to verify") }
        return records
    }
}

/// The settings of a rollout job as one process applies them.
private struct RolloutSettings {
    let job: RolloutJob
    let stopIDs: [Int32]
    let usableVocabulary: Int
    let budget: ThinkingBudget?
    let stop: StopStrings?

    init(_ job: RolloutJob, checkpoint: Checkpoint, tokenizer: Tokenizer) throws {
        self.job = job
        let template = try tokenizer.chatTemplate(ofJob: job.chatTemplate)
        stopIDs = template.stopIDs(checkpoint.configuration.eosTokenIDs.map(Int32.init), tokenizer)
        usableVocabulary = tokenizer.idLimit
        budget = try job.thinking.budget.map {
            let parser = try ThinkingParser(tokenizer)
            return ThinkingBudget(
                tokenCount: $0, startID: parser.startID, endID: parser.endID,
                stopIDs: job.thinking.stopText.map { tokenizer.encode($0) } ?? ThinkingParser.stopThinkingIDs(tokenizer)
            )
        }
        stop = job.sampling.stop.isEmpty ? nil : StopStrings(job.sampling.stop) { tokenizer.bytes(of: $0) }
    }

    func options(group: Int, sibling: Int) -> GenerationOptions {
        let s = job.sampling
        return GenerationOptions(
            sampling: SamplingParameters(
                repetitionPenalty: Float(s.repetitionPenalty), presencePenalty: Float(s.presencePenalty),
                temperature: Float(s.temperature), topK: s.topK, topP: Float(s.topP), minP: Float(s.minP)),
            maxNewTokens: s.maxNewTokens, stopIDs: stopIDs,
            random: RolloutRandom(runSeed: UInt64(job.seed), prompt: UInt32(group), sibling: UInt16(sibling)),
            thinkingBudget: budget, usableVocabulary: usableVocabulary, endsWithStopString: stop?.ends)
    }
}
