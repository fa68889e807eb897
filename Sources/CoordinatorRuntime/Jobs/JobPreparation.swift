// SPDX-License-Identifier: Apache-2.0
//
// A submitted job becomes rows of token ids before it is admitted: everything that can be wrong with the job file, the
// data, the tokenizer or the model is found here, while the person is still at the terminal.
internal import Checkpoints
internal import ClusterCore
internal import ClusterProtocol
internal import Foundation
internal import JobSpecification
internal import Rewards
internal import RuntimeSupport
internal import SwiftProtobuf
internal import Tokenization

/// Why a job was not accepted: one line, and the exit code for the client.
struct SubmissionError: Error, CustomStringConvertible {
    let description: String
    var exitCode: Int32 = 3
}

/// What the preparation found out.
struct PreparedSubmission {
    var admitted: WireJobAdmitted
    var policy: WireModelDescription?
    var scorer: WireModelDescription?
    /// Teachers of single files of a mixture.
    var furtherScorers: [WireModelDescription] = []
    var settings: WireGenerationSettings
    var rows: [JobRow]
    var warnings: [String]
    var firstPrompt: FirstPrompt?
}

/// Reads, checks and tokenizes a submitted job.
struct JobPreparation {
    let submission: WireSubmitJob
    /// Where the job may read and write; nil: wherever the coordinator can.
    var roots: SubmissionRoots?

    /// - Throws: ``SubmissionError``.
    func run(job id: UInt64) throws(SubmissionError) -> PreparedSubmission {
        do {
            // The client read and checked the file; this is the same again, in case it is older than we are.
            var job: Job
            let paths = FilePathLog()
            do {
                job = try paths.during { () throws(JobError) in
                    try Job.parse(
                        submission.jobText, rewardNames: RewardRegistry.names, rewardProblem: RewardRegistry.problem)
                }
            } catch { throw error.inFile(submission.file) }
            try roots?.check(paths: paths.paths, outputs: [job.output], file: submission.file)
            // A data set's folder holds links, and they may lead elsewhere.
            if let roots {
                let files: [String]
                do throws(JobError) { files = try job.dataFiles() } catch {
                    throw SubmissionError(description: error.description)
                }
                try roots.check(paths: files, outputs: [job.output], file: submission.file)
            }
            // Settings that the client left open, since it cannot see the checkpoint: a file that it may read by now.
            do {
                job = try Job.parse(
                    submission.jobText, rewardNames: RewardRegistry.names, rewardProblem: RewardRegistry.problem,
                    checkpoint: CheckpointFacts.look(at:))
            } catch { throw error.inFile(submission.file) }
            var prepared =
                switch job {
                case .rollout(let rollout): try prepare(rollout, job, id)
                case .score(let score): try prepare(score, job, id)
                case .train(let train): try prepare(train, job, id)
                }
            prepared.admitted.dataHashes = try job.dataHashes()
            prepared.admitted.firstPrompt = prepared.firstPrompt?.text ?? ""
            prepared.admitted.submission = submission.submission
            prepared.admitted.judging = WireJudgingNeeds(prepared.settings, rows: prepared.rows)
            return prepared
        } catch let error as SubmissionError {
            throw error
        } catch {
            throw SubmissionError(description: String(describing: error))
        }
    }

    /// What a row lacks that the job's rewards read.
    func missingColumn(
        for rewards: [RewardSection], _ judge: JudgeSection?, _ model: RewardModelSection?,
        _ environment: EnvironmentSection?
    ) -> @Sendable (PromptRecord) -> String? {
        var unavailable: [String: String] = [:]
        if judge == nil { unavailable[JudgeReward.name] = "a section 'judge'" }
        if model == nil { unavailable[ModelReward.name] = "a section 'reward_model'" }
        if environment == nil {
            for name in [EnvironmentStateReward.name, ToolValidityReward.name] {
                unavailable[name] = "a section 'environment'"
            }
        }
        let needs = RewardColumns(rewards.map { ($0.name, $0.options) }, unavailable: unavailable)
        return { record in needs.problem(answer: record.answer, columns: record.columns) }
    }

    func url(_ path: String) -> URL { URL(fileURLWithPath: path).standardizedFileURL }

    /// Of each model once, in this order.
    func notes(of models: [ModelFiles?]) -> [String] {
        models.reduce(into: []) { notes, model in
            notes += (model?.notes ?? []).filter { !notes.contains($0) }
        }
    }

    // MARK: - Rollouts

    private func prepare(_ job: RolloutJob, _ parsed: Job, _ id: UInt64) throws -> PreparedSubmission {
        let model = try ModelFiles(job.model, at: url(job.model.path), version: job.policyVersion)
            .asLanguageModel()
        let tokenizer = try model.tokenizer()
        let teacher = try job.teacher.map {
            try ModelFiles(url($0.path), compute: $0.compute, version: 0).asLanguageModel()
        }
        let rewardModel = try rewardModel(job.rewardModel, tokenizer, model)
        if let teacher { try teacher.requireVocabulary(of: tokenizer, asIn: model) }
        var reader = try DataReader<PromptRecord>(
            prompts: url(job.data.path), job.data,
            problem: missingColumn(
                for: job.rewards, job.judge, job.rewardModel, job.environment))
        let renderer = try model.renderer(tokenizer, job.chatTemplate, environment: job.environment)
        var rows: [JobRow] = []
        var firstPrompt: FirstPrompt?
        var tooLong: [String] = []
        while let record = try reader.next() {
            let ids = try at(reader.place) { try renderer.tokens(of: record) }
            let most = min(model.contextLength, teacher?.contextLength ?? .max)
            guard ids.count + 1 <= most else {
                let text = "\(place(reader.place)): the prompt has \(ids.count) tokens, the model's context \(most)"
                guard job.data.onBadRow == .skip else {
                    throw SubmissionError(description: text + "; shorten it or set data.on_bad_row: skip")
                }
                tooLong.append(text)
                continue
            }
            firstPrompt = firstPrompt ?? renderer.first(record, ids, job.data)
            rows.append(JobRow(group: rows.count, id: record.id, tokens: ids, json: try json(record)))
        }
        guard !rows.isEmpty else { throw SubmissionError(description: "\(url(job.data.path).path): no usable row") }
        let longest = rows.map(\.tokens.count).max()! + job.sampling.maxNewTokens
        try requireCache(job.resources, model, tokens: longest)
        if let teacher, let outputs = job.teacher?.outputs {
            try requireRecord(
                outputs, teacher, tokens: min(job.sampling.maxNewTokens, model.contextLength),
                remedy: "lower sampling.max_new_tokens")
        }
        try requireRoom(rewardModel, job.resources, for: min(longest, model.contextLength))
        var settings = try self.settings(
            sampling: job.sampling, thinking: job.thinking, rewards: job.rewards, seed: job.seed,
            environment: job.environment, judge: job.judge, rewardModel: rewardModel, renderer, model, rows)
        if let teacher = job.teacher { settings.score = teacher.outputs.wire }
        settings.score.temperature = Float(job.sampling.temperature == 0 ? 1 : job.sampling.temperature)
        var warnings = notes(of: [model, teacher, rewardModel]) + renderer.warnings + tooLong
        if let text = skipped(reader) { warnings.append(text) }
        return try PreparedSubmission(
            admitted: admitted(
                parsed, id, kind: "rollout", rows.count, job.groupSize, job.resources, job.model.replicas, job.output),
            policy: model.description, scorer: teacher?.description,
            furtherScorers: [judgeModel(job.judge), rewardModel].compactMap { try $0?.description },
            settings: settings, rows: rows, warnings: warnings, firstPrompt: firstPrompt)
    }

    func settings(
        sampling: SamplingSection, thinking: ThinkingSection, rewards: [RewardSection], seed: Int,
        environment: EnvironmentSection?, judge: JudgeSection?, rewardModel: ModelFiles?, _ renderer: PromptRenderer,
        _ model: ModelFiles, _ rows: [JobRow]
    ) throws -> WireGenerationSettings {
        let tokenizer = renderer.tokenizer
        let judge = try judge.map { try wire($0) }
        let environment = try environment.map { try wire($0, sampling, renderer) }
        let opensThinking = ThinkingParser.allOpen(rows.lazy.map(\.tokens), tokenizer, ends: renderer.stopIDs)
        return try .with {
            if let environment { $0.environment = environment }
            if let judge { $0.judge = judge }
            if let rewardModel {
                let description = try rewardModel.description
                $0.rewardModel.contentHash = description.contentHash
                $0.rewardModel.compute = description.compute
                if let end = try rewardModel.endOfAnswer() { $0.rewardModel.endID = end }
            }
            $0.temperature = Float(sampling.temperature)
            $0.topP = Float(sampling.topP)
            $0.topK = UInt32(sampling.topK)
            $0.minP = Float(sampling.minP)
            $0.repetitionPenalty = Float(sampling.repetitionPenalty)
            $0.presencePenalty = Float(sampling.presencePenalty)
            $0.maxNewTokens = UInt32(sampling.maxNewTokens)
            $0.stopIds = renderer.stopIDs
            $0.stopStrings = sampling.stop
            $0.seed = UInt64(seed)
            $0.usableVocabulary = UInt32(tokenizer.idLimit)
            $0.rewards = rewards.map { reward in
                .with {
                    $0.name = reward.name
                    $0.weight = reward.weight
                    $0.options = reward.options
                    if reward.name == FormatReward.name, opensThinking, $0.options["opens_in_prompt"] == nil {
                        $0.options["opens_in_prompt"] = "true"
                    }
                }
            }
            if let budget = thinking.budget {
                let parser = try ThinkingParser(tokenizer)
                $0.thinkingLimit = .with {
                    $0.tokenCount = UInt32(budget)
                    $0.startID = parser.startID
                    $0.endID = parser.endID
                    $0.stopIds =
                        thinking.stopText.map { tokenizer.encode($0) } ?? ThinkingParser.stopThinkingIDs(tokenizer)
                }
            }
            // A response that begins inside a block is unfinished until it closes it.
            $0.thinking = opensThinking ? ThinkingMode.on.rawValue : thinking.mode.rawValue
        }
    }

    /// The judge's checkpoint; nil for an endpoint.
    func judgeModel(_ judge: JudgeSection?) throws -> ModelFiles? {
        guard case .model(let path, let compute) = judge?.source else { return nil }
        return try ModelFiles(url(path), compute: compute, version: 0).asLanguageModel()
    }

    /// The reward model's checkpoint; it reads the policy's prompts as they are.
    func rewardModel(
        _ section: RewardModelSection?, _ tokenizer: Tokenizer, _ policy: ModelFiles
    ) throws -> ModelFiles? {
        guard let section else { return nil }
        let files = try ModelFiles(url(section.path), compute: section.compute, version: 0).asRewardModel()
        try files.requireVocabulary(of: tokenizer, asIn: policy, role: "reward model")
        return files
    }

    /// A response that its policy can write must be one that the reward model can read.
    func requireRoom(_ rewardModel: ModelFiles?, _ resources: ResourcesSection, for tokens: Int) throws {
        guard let rewardModel else { return }
        guard tokens + 1 <= rewardModel.contextLength else {
            throw SubmissionError(
                description:
                    "\(submission.file): reward_model: its context is \(rewardModel.contextLength) tokens, prompt and "
                    + "response may have \(tokens) and an end; lower sampling.max_new_tokens")
        }
        try requireCache(resources, rewardModel, tokens: tokens + 1)
    }

    private func wire(_ judge: JudgeSection) throws -> WireJudgeSettings {
        let model = try judgeModel(judge)
        // A judge reads text: it needs a tokenizer of its own, not the policy's.
        let stopIDs = try model.map { try $0.renderer($0.tokenizer()).stopIDs } ?? []
        let description = try model?.description
        return .with {
            $0.prompt = judge.prompt
            $0.maxNewTokens = UInt32(judge.maxNewTokens)
            $0.timeoutMilliseconds = UInt64(judge.timeoutMilliseconds)
            if let description {
                $0.contentHash = description.contentHash
                $0.compute = description.compute
                $0.stopIds = stopIDs
            }
            if case .endpoint(let url, let name, let key) = judge.source {
                $0.endpoint = url
                $0.endpointModel = name
                $0.keyVariable = key ?? ""
            }
        }
    }

    private func wire(
        _ environment: EnvironmentSection, _ sampling: SamplingSection, _ renderer: PromptRenderer
    ) throws -> WireEnvironmentSettings {
        if let name = environment.tools.first(where: { !ToolRegistry.names.contains($0) }) {
            throw SubmissionError(
                description: "\(submission.file): environment.tools: no tool is named '\(name)'; tools: "
                    + ToolRegistry.names.joined(separator: ", "))
        }
        let template = renderer.templateText ?? renderer.tokenizer.chatTemplates.text(withTools: true)
        guard template?.contains("<tool_call>") == true else {
            throw SubmissionError(
                description: "\(submission.file): environment: the chat template does not know tools, or calls them in "
                    + "another form than <tool_call>")
        }
        let corpus = environment.corpus.map { url($0).path } ?? ""
        guard corpus.isEmpty || FileManager.default.isReadableFile(atPath: corpus) else {
            throw SubmissionError(description: "\(submission.file): environment.corpus: \(corpus) cannot be read")
        }
        return .with {
            $0.tools = environment.tools
            $0.corpus = corpus
            $0.turnsMax = UInt32(environment.turnsMax)
            $0.turnTokensMax = UInt32(environment.turnTokensMax ?? sampling.maxNewTokens)
            $0.callMilliseconds = UInt64(environment.callMilliseconds)
            $0.observationByteCount = UInt32(environment.observationByteCount)
            $0.chatTemplate = renderer.templateText ?? ""
            $0.chatTemplateKwargs = JSONValue.object(renderer.settings.arguments).pythonText
            $0.chatTemplateClock = Int64(renderer.settings.clock)
        }
    }

    /// The rows that were left out, in one line; nil: none.
    func skipped<Record>(_ reader: DataReader<Record>) -> String? {
        reader.skipped.first.map {
            "\(reader.skippedCount) broken rows were skipped, the first: \($0.place): \($0.reason)"
        }
    }

    func place(_ row: RowPlace?) -> String { row?.description ?? submission.file }

    /// Adds the row's place to what is wrong with it.
    func at<R>(_ row: RowPlace?, _ body: () throws -> R) throws -> R {
        do { return try body() } catch let problem as RowProblem {
            throw SubmissionError(description: "\(place(row)): \(problem)")
        }
    }

    func json(_ record: PromptRecord) throws -> String {
        var fields = record.columns
        fields["id"] = record.id
        if let flag = record.lastFlag
            ?? record.templateArguments?["enable_thinking"]?.boolValue.map({
                $0 ? "think" : "no_think"
            })
        {
            fields[ThinkingModeReward.flagColumn] = flag
        }
        if let answer = record.answer { fields["answer"] = answer }
        fields["prompt"] = record.content.query
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(fields), as: UTF8.self)
    }

    // MARK: - Scores

    private func prepare(_ job: ScoreJob, _ parsed: Job, _ id: UInt64) throws -> PreparedSubmission {
        let model = try ModelFiles(job.model, at: url(job.model.path), version: job.policyVersion)
        let tokenizer = try model.tokenizer()
        let isRewardModel = model.checkpoint.configuration.isRewardModel
        if isRewardModel, job.outputs != .sampled || job.temperature != 1 {
            throw SubmissionError(
                description: "\(submission.file): a reward model gives one scalar; remove outputs and temperature")
        }
        let renderer = try model.renderer(tokenizer, job.chatTemplate)
        let end = renderer.endOfAnswer
        var reader = try DataReader<ScoreRecord>(scores: url(job.data.path), job.data)
        var rows: [JobRow] = []
        var firstPrompt: FirstPrompt?
        while let record = try reader.next() {
            let sequences =
                try at(reader.place) {
                    isRewardModel
                        ? try renderer.judged(record, end: end)
                        : [(ids: try renderer.tokens(of: record), json: "{}")]
                }
            for (ids, json) in sequences {
                guard ids.count <= model.contextLength,
                    ids.allSatisfy({ $0 < model.checkpoint.configuration.vocabularySize })
                else {
                    throw SubmissionError(
                        description:
                            "\(place(reader.place)): \(ids.count) tokens or an id beyond the model's context \(model.contextLength) or vocabulary; was it made with another tokenizer?"
                    )
                }
                firstPrompt = firstPrompt ?? renderer.first(record, ids, job.data, learned: nil)
                rows.append(JobRow(group: rows.count, id: record.id, tokens: ids, json: json))
            }
        }
        guard !rows.isEmpty else { throw SubmissionError(description: "\(url(job.data.path).path): no usable row") }
        try requireCache(job.resources, model, tokens: rows.map(\.tokens.count).max()!)
        try requireRecord(
            job.outputs, model, tokens: rows.map(\.tokens.count).max()!, remedy: "cut the data's texts")
        let settings = WireGenerationSettings.with {
            $0.score = job.outputs.wire
            $0.score.temperature = Float(job.temperature)
            $0.score.scalar = isRewardModel
        }
        return try PreparedSubmission(
            admitted: admitted(parsed, id, kind: "score", rows.count, 1, job.resources, job.model.replicas, job.output),
            policy: nil, scorer: model.description, settings: settings, rows: rows,
            warnings: model.notes + renderer.warnings + [skipped(reader)].compactMap { $0 }, firstPrompt: firstPrompt)
    }

    // MARK: - Both

    func admitted(
        _ job: Job, _ id: UInt64, kind: String, _ groups: Int, _ size: Int, _ resources: ResourcesSection,
        _ replicas: Int, _ output: String
    ) -> WireJobAdmitted {
        .with {
            $0.job = id
            $0.name = job.name
            $0.kind = kind
            $0.resolvedYaml = job.resolvedYAML
            $0.output = url(output).path
            $0.groupCount = UInt32(groups)
            $0.groupSize = UInt32(size)
            $0.workersMin = UInt32(resources.workerCountMin)
            $0.memoryByteCountPerWorker = UInt64(resources.memoryByteCountPerWorker ?? 0)
            switch job {
            case .rollout(let job): $0.failedGroupsMax = job.failedGroupsMax
            case .train(let job): $0.failedGroupsMax = job.failedGroupsMax
            case .score: $0.failedGroupsMax = 1
            }
            $0.engine = WireEngineSettings(resources, replicas: replicas)
        }
    }

    /// What a model says of one sequence is kept in one piece, which has a largest size.
    func requireRecord(_ outputs: TeacherOutputs, _ model: ModelFiles, tokens: Int, remedy: String) throws {
        let perToken = outputs.byteCountPerToken(vocabulary: model.checkpoint.configuration.vocabularySize)
        let most = (WireUnitResult.byteCountMax - (1 << 20)) / perToken
        guard tokens <= most else {
            throw SubmissionError(
                description:
                    "\(submission.file): outputs: of one sequence \(most) tokens can be kept with \(perToken) bytes each, "
                    + "the longest may have \(tokens); \(remedy) or ask for outputs: {top_k: 64}")
        }
    }

    func requireCache(_ resources: ResourcesSection, _ model: ModelFiles, tokens: Int) throws {
        let needed = min(tokens, model.contextLength) * model.cacheByteCountPerToken
        guard needed <= resources.kvCacheByteCount else {
            throw SubmissionError(
                description:
                    "\(submission.file): resources.kv_cache_bytes is \(resources.kvCacheByteCount), one sequence of "
                    + "\(tokens) tokens needs \(needed); raise it or lower sampling.max_new_tokens")
        }
    }
}

extension TeacherOutputs {
    /// What a record has for each token.
    func byteCountPerToken(vocabulary: Int) -> Int {
        switch self {
        case .sampled: 8
        case .topK(let count): 12 + 8 * count
        case .full: 8 + 4 * vocabulary
        }
    }

    var wire: WireScoreSettings {
        .with {
            switch self {
            case .sampled: break
            case .topK(let count): $0.topK = UInt32(count)
            case .full: $0.full = true
            }
        }
    }
}
