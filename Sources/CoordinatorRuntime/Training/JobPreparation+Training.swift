// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import ClusterProtocol
internal import Foundation
internal import JobSpecification
internal import Qwen3
internal import SwiftProtobuf
internal import Tokenization

extension JobPreparation {
    func prepare(_ job: TrainJob, _ parsed: Job, _ id: UInt64) throws -> PreparedSubmission {
        let files = try ModelFiles(
            url(job.model.path), compute: job.model.compute, version: 0,
            freshHeadSeed: job.method == .reward ? UInt64(job.seed) : nil)
        let model = job.method == .reward ? files : try files.asLanguageModel()
        let tokenizer = try model.tokenizer()
        let teachers = try self.teachers(job, model, tokenizer)
        let reference =
            job.loss.klCoefficient == 0 || job.method != .grpo
            ? nil
            : try ModelFiles(
                url(job.reference?.path ?? job.model.path), compute: (job.reference ?? job.model).compute,
                version: 0
            ).asLanguageModel()
        let rewardModel = try rewardModel(job.rewardModel, tokenizer, model)
        if let reference { try reference.requireVocabulary(of: tokenizer, asIn: model) }
        if job.routerAuxiliaryCoefficient > 0, model.checkpoint.configuration.expertCount == 0 {
            throw SubmissionError(
                description: "\(submission.file): router_aux_loss_coef: the model has no experts; remove it")
        }
        if job.replaysRoutes, model.checkpoint.configuration.expertCount == 0 {
            throw SubmissionError(
                description: "\(submission.file): routing_replay: the model has no experts; remove it")
        }
        let renderer = try model.renderer(tokenizer, job.chatTemplate, environment: job.environment)
        let isSupervised = !job.generates
        var rows: [JobRow] = []
        var firstPrompt: FirstPrompt?
        var warnings = notes(of: [model, reference, rewardModel] + teachers.files) + renderer.warnings
        var sources: [WireDataSource] = []
        for data in job.data {
            let first = rows.count
            if job.method == .reward {
                try preferences(data, model, renderer, &rows, &warnings, &firstPrompt)
            } else if isSupervised {
                try demonstrations(
                    data, model, renderer, allTurns: job.learnsAllTurns, &rows, &warnings, &firstPrompt)
            } else {
                let context = (teachers.files + [model]).map(\.contextLength).min()!
                try prompts(job, data, context: context, renderer, &rows, &warnings, &firstPrompt)
            }
            guard rows.count > first else {
                throw SubmissionError(description: "\(url(data.path).path): no usable row")
            }
            sources.append(
                .with {
                    $0.rowCount = UInt32(rows.count - first)
                    $0.weight = data.weight
                    $0.teacher = UInt32(teachers.ofSources[sources.count])
                })
        }
        if !isSupervised, let filter = job.sampling.filter {
            warnings.append(
                "\(submission.file): sampling.\(filter): responses are drawn from another distribution than the one that is "
                    + "trained, whose log-probs are over the whole vocabulary without penalties; remove it unless this is "
                    + "wanted")
        }
        if !isSupervised {
            let longest = rows.map(\.tokens.count).max()! + job.sampling.maxNewTokens
            try requireCache(job.resources, model, tokens: longest)
            try requireRoom(rewardModel, job.resources, for: min(longest, model.contextLength))
        }
        var admitted = self.admitted(
            parsed, id, kind: "train",
            isSupervised ? 0 : job.stepCount / job.updatesPerBatch * job.rowsPerStep * (1 + job.refillMax),
            job.groupSize, job.resources, 1, job.output)
        admitted.stepCount = UInt32(job.stepCount)
        admitted.promptsPerBatch = isSupervised ? 0 : UInt32(job.rowsPerStep)
        admitted.updatesPerBatch = UInt32(job.updatesPerBatch)
        admitted.rowCount = UInt32(rows.count)
        admitted.snapshotEvery = UInt32(job.checkpointEvery)
        admitted.snapshotKeep = UInt32(job.checkpointKeep)
        admitted.optimizerOnDisk = job.optimizer.store == .disk
        admitted.refillMax = UInt32(job.refillMax)
        if job.optimizer.resumes {
            admitted.resumesOptimizer = true
            admitted.earlierUpdates = try earlierUpdates(model)
        }
        if sources.count > 1 { admitted.sources = sources }
        var settings = try self.settings(
            sampling: job.sampling, thinking: job.thinking, rewards: job.rewards, seed: job.seed,
            environment: job.environment, judge: job.judge, rewardModel: rewardModel, renderer, model, rows)
        // Hundreds of bytes a token, for nothing but the replay of routing.
        settings.dropsRoutes = !job.replaysRoutes
        return PreparedSubmission(
            admitted: admitted, policy: try trained(model, job, rows, teachers.files),
            scorer: try (teachers.files.first ?? reference)?.description,
            // Teachers first: data sources number them.
            furtherScorers: try teachers.files.dropFirst().map { try $0.description }
                + [judgeModel(job.judge), rewardModel].compactMap { try $0?.description },
            settings: settings, rows: rows, warnings: warnings, firstPrompt: firstPrompt)
    }

    /// Updates behind the moments that `optimizer.resume` goes on with.
    private func earlierUpdates(_ model: ModelFiles) throws(SubmissionError) -> UInt64 {
        guard model.checkpoint.freshHeadSeed == nil else {
            throw SubmissionError(
                description: "\(submission.file): optimizer.resume: \(model.checkpoint.directory.path) is a language "
                    + "model, its moments are none of a reward model; remove it")
        }
        do { return try TrainingStateRecord(of: model.checkpoint).updates } catch {
            throw SubmissionError(description: "\(submission.file): optimizer.resume: \(error)")
        }
    }

    /// The job's teachers, each once, and for each file of data which of them is its own.
    private func teachers(
        _ job: TrainJob, _ model: ModelFiles, _ tokenizer: Tokenizer
    ) throws -> (files: [ModelFiles], ofSources: [Int]) {
        guard let named = job.teacher else { return ([], job.data.map { _ in 0 }) }
        var paths: [String] = []
        let ofSources = job.data.map { data in
            let path = url(data.teacher ?? named.path).path
            if !paths.contains(path) { paths.append(path) }
            return paths.firstIndex(of: path)!
        }
        let files = try paths.map { path in
            let teacher = try ModelFiles(url(path), compute: named.compute, version: 0).asLanguageModel()
            try teacher.requireVocabulary(of: tokenizer, asIn: model)
            let (own, other) = (model.checkpoint.configuration, teacher.checkpoint.configuration)
            guard own.vocabularySize == other.vocabularySize else {
                throw SubmissionError(
                    description:
                        "the teacher \(teacher.checkpoint.directory.path) has \(other.vocabularySize) vocabulary rows, the "
                        + "student \(own.vocabularySize): their distributions cannot be compared")
            }
            return teacher
        }
        return (files, ofSources)
    }

    /// The policy has a number of its own even where another job uses the same files: its weights will change.
    private func trained(
        _ model: ModelFiles, _ job: TrainJob, _ rows: [JobRow], _ teachers: [ModelFiles]
    ) throws -> WireModelDescription {
        var description = try model.description
        description.contentHash = try model.checkpoint.identity(withTrainingState: true).hexadecimal
        let longest = rows.map(\.tokens.count).max()! + (job.generates ? job.sampling.maxNewTokens : 0)
        description.setTraining(
            model.checkpoint.configuration, job, longest: longest, teachers: teachers.map(\.checkpoint.configuration))
        description.output = url(job.output).path
        return description
    }

    private func prompts(
        _ job: TrainJob, _ data: DataSection, context: Int, _ renderer: PromptRenderer,
        _ rows: inout [JobRow], _ warnings: inout [String], _ firstPrompt: inout FirstPrompt?
    ) throws {
        var reader = try DataReader<PromptRecord>(
            prompts: url(data.path), data,
            problem: missingColumn(
                for: job.rewards, job.judge, job.rewardModel, job.environment))
        while let record = try reader.next() {
            let ids = try at(reader.place) { try renderer.tokens(of: record) }
            guard ids.count + 1 <= context else {
                try tooLong(data, reader.place, ids.count, context, &warnings)
                continue
            }
            firstPrompt = firstPrompt ?? renderer.first(record, ids, data)
            rows.append(JobRow(group: rows.count, id: record.id, tokens: ids, json: try json(record)))
        }
        warn(data, reader, &warnings)
    }

    private func demonstrations(
        _ data: DataSection, _ model: ModelFiles, _ renderer: PromptRenderer, allTurns: Bool,
        _ rows: inout [JobRow], _ warnings: inout [String], _ firstPrompt: inout FirstPrompt?
    ) throws {
        var reader = try DataReader<ScoreRecord>(scores: url(data.path), data)
        while let record = try reader.next() {
            let learned = try at(reader.place) { try renderer.demonstration(of: record, allTurns: allTurns) }
            let tokens = learned.tokens
            guard tokens.count <= model.contextLength else {
                try tooLong(data, reader.place, tokens.count, model.contextLength, &warnings)
                continue
            }
            firstPrompt = firstPrompt ?? renderer.first(record, tokens, data, learned: learned.spans[0].lowerBound)
            rows.append(
                JobRow(
                    group: rows.count, id: record.id, tokens: tokens,
                    json: Demonstration(id: record.id, spans: learned.spans).json))
        }
        warn(data, reader, &warnings)
    }

    private func preferences(
        _ data: DataSection, _ model: ModelFiles, _ renderer: PromptRenderer, _ rows: inout [JobRow],
        _ warnings: inout [String], _ firstPrompt: inout FirstPrompt?
    ) throws {
        var reader = try DataReader<ScoreRecord>(scores: url(data.path), data)
        let end = renderer.endOfAnswer
        while let record = try reader.next() {
            guard case .pair(let pair) = record.content else {
                throw SubmissionError(
                    description:
                        "\(place(reader.place)): no columns 'chosen' and 'rejected', which method reward learns from")
            }
            let (chosen, rejected) = try at(reader.place) { try renderer.pair(pair, of: record, end: end) }
            guard chosen != rejected else {
                let text =
                    "\(place(reader.place)): 'chosen' and 'rejected' differ in nothing but thinking, which a reward model does "
                    + "not read"
                guard data.onBadRow == .skip else {
                    throw SubmissionError(description: text + "; mend the row or set data.on_bad_row: skip")
                }
                warnings.append(text)
                continue
            }
            let longest = max(chosen.count, rejected.count)
            guard longest <= model.contextLength else {
                try tooLong(data, reader.place, longest, model.contextLength, &warnings)
                continue
            }
            firstPrompt = firstPrompt ?? renderer.first(record, chosen, data, learned: nil)
            rows.append(
                JobRow(
                    group: rows.count, id: record.id, tokens: chosen + rejected,
                    json: PreferenceRow(chosenCount: chosen.count).json))
        }
        warn(data, reader, &warnings)
    }

    private func warn<Record>(
        _ data: DataSection, _ reader: DataReader<Record>, _ warnings: inout [String]
    ) {
        if let text = skipped(reader) { warnings.append(text) }
    }

    private func tooLong(
        _ data: DataSection, _ row: RowPlace?, _ count: Int, _ context: Int, _ warnings: inout [String]
    ) throws(SubmissionError) {
        let text = "\(place(row)) has \(count) tokens, the model's context is \(context)"
        guard data.onBadRow == .skip else {
            throw SubmissionError(description: text + "; shorten it or set data.on_bad_row: skip")
        }
        warnings.append(text)
    }
}
