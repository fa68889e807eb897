// SPDX-License-Identifier: Apache-2.0
//
// What a pipeline's runs were: which stages trained, which asked the same questions of a model, and which of two that did
// came before and after a training. Told by the runs' own settings, not by the names of stages.
internal import Checkpoints
internal import Foundation
internal import JobSpecification

/// The finished runs among a pipeline's stages.
struct PipelineRuns {
    /// A stage in which a model answered questions.
    struct Evaluation {
        let stage: String
        /// The stage that made the model; nil: it is none of this pipeline's.
        let model: String?
        /// All settings but the model and the names: equal where the same was asked in the same way.
        let question: String
        let data: String
        let answers: [Answer]
        let scores: SampleStatistics

        /// pass@1 where responses are right or wrong, otherwise the mean reward.
        var isPass: Bool { scores.questions.allSatisfy { $0.scores.allSatisfy { $0 == 0 || $0 == 1 } } }
    }

    struct Training {
        let stage: String
        /// The stage that made the model it began with.
        let start: String?
        let method: TrainingMethod
    }

    /// The same questions before and after one training.
    struct Comparison {
        let training: Training
        let before: Evaluation?
        let after: Evaluation
    }

    let trainings: [Training]
    let evaluations: [Evaluation]
    let comparisons: [Comparison]

    init(_ pipeline: Pipeline) {
        var trainings: [Training] = []
        var evaluations: [Evaluation] = []
        for stage in pipeline.stages {
            let directory = pipeline.directory(of: stage.name)
            guard let text = RunDirectory(directory).jobText, let job = try? Job.parse(text) else { continue }
            switch job {
            case .train(let job):
                trainings.append(
                    Training(
                        stage: stage.name, start: Self.maker(of: job.model.path, pipeline), method: job.method))
            case .rollout(let job):
                guard !job.rewards.isEmpty, let evaluation = Self.evaluation(stage.name, job, directory, pipeline)
                else {
                    continue
                }
                evaluations.append(evaluation)
            case .score: continue
            }
        }
        self.trainings = trainings
        self.evaluations = evaluations
        comparisons = trainings.flatMap { training in
            evaluations.filter { $0.model == training.stage }.map { after in
                let before = evaluations.first {
                    $0.model != nil && $0.model == training.start && $0.question == after.question
                }
                return Comparison(training: training, before: before, after: after)
            }
        }
    }

    /// The stage in whose directory a path lies.
    private static func maker(of path: String, _ pipeline: Pipeline) -> String? {
        let path = URL(fileURLWithPath: path).standardizedFileURL.path
        return pipeline.stages.map(\.name).first { path.hasPrefix(pipeline.directory(of: $0).path + "/") }
    }

    private static func evaluation(
        _ stage: String, _ job: RolloutJob, _ directory: URL, _ pipeline: Pipeline
    ) -> Evaluation? {
        guard let answers = try? Answer.read(directory), !answers.isEmpty,
            case .mapping(var settings) = job.resolved
        else { return nil }
        for key in ["name", "output", "resources"] { settings[key] = nil }
        if case .mapping(var model)? = settings["model"] {
            model["path"] = nil
            settings["model"] = .mapping(model)
        }
        var (order, scores): ([String], [String: [Double]]) = ([], [:])
        for answer in answers {
            if scores[answer.id] == nil { order.append(answer.id) }
            scores[answer.id, default: []].append(answer.reward)
        }
        return Evaluation(
            stage: stage, model: maker(of: job.model.path, pipeline), question: ResolvedValue.mapping(settings).yaml,
            data: job.data.path, answers: answers,
            scores: SampleStatistics(order.map { .init(scores: scores[$0] ?? []) }))
    }
}

extension PipelineRuns.Comparison {
    /// One question with an answer of each model.
    struct Pair {
        let before: Answer?
        let after: Answer
    }

    /// Questions whose answers say most, at most `count`: those that training made right, one that it made wrong, one that
    /// stayed wrong, one that stayed right; then whatever comes first. Always the first response to each.
    func pairs(_ count: Int) -> [Pair] {
        let firsts = Self.firsts(after.answers)
        let earlier = before.map { Self.firsts($0.answers) } ?? []
        let byID = Dictionary(earlier.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        let pairs = firsts.map { Pair(before: byID[$0.id], after: $0) }
        guard before != nil else { return Array(pairs.prefix(count)) }
        func places(_ holds: (Double, Double) -> Bool) -> [Int] {
            pairs.indices.filter { index in
                pairs[index].before.map { holds($0.reward, pairs[index].after.reward) } ?? false
            }
        }
        var chosen: [Int] = []
        let kinds = [
            (places { $0 < $1 }, max(1, count / 2)), (places { $0 > $1 }, 1), (places { $0 == $1 && $1 < 1 }, 1),
            (places { $0 == $1 && $1 >= 1 }, 1), (Array(pairs.indices), count),
        ]
        for (places, most) in kinds {
            chosen += places.filter { !chosen.contains($0) }.prefix(min(most, count - chosen.count))
        }
        return chosen.sorted().map { pairs[$0] }
    }

    private static func firsts(_ answers: [Answer]) -> [Answer] {
        var seen: Set<String> = []
        return answers.filter { seen.insert($0.id).inserted }
    }
}
