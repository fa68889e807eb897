// SPDX-License-Identifier: Apache-2.0
//
// The keys of pipelines and evaluation suites, which become jobs. JobKey.swift says how one is added.
extension JobSchema {
    static let pipelineKeys: [JobKey] = [
        JobKey(
            "output", .path, .required, "Directory of the stages; interrupted, the same command goes on there.",
            in: [.pipeline, .suite]),
        JobKey(
            "variables", .texts(64), .none("none"),
            "Values that stand for {NAME} in the file; --set variables.NAME=VALUE replaces one.",
            in: [.pipeline, .suite]),
        JobKey(
            "stages", .list(.either([.section(stage), .section(suiteStage)]), 256), .required,
            "Jobs, commands of this program and suites, in order; {STAGE} stands for an earlier one's directory, "
                + "{pipeline} for the file's.", in: [.pipeline]),
        JobKey(
            "report", .list(.section(report), 64), .none("a table of the stages"),
            "Tables and curves of the stages' figures.", in: [.pipeline]),
        JobKey("model", .section(model, short: "path"), .required, "The model that is evaluated.", in: [.suite]),
        JobKey(
            "modes", modes, .none("both"), "Modes that every row is evaluated in.", in: [.suite]),
        JobKey(
            "defaults", .section(rowDefaults), .none("none"), "Values of rows that do not have them.", in: [.suite]),
        JobKey(
            "thinking", .section(mode), .none("none"), "Values of the mode thinking.", in: [.suite]),
        JobKey(
            "non_thinking", .section(mode), .none("none"), "Values of the mode non_thinking.", in: [.suite]),
        JobKey("rows", .list(.section(row), 256), .required, "The evaluations.", in: [.suite]),
    ]

    // MARK: - Pipelines

    private static let stageName = JobKey(
        "name", .text(64), .required, "What the stage and its directory are called.")
    private static let stageSettings = JobKey(
        "set", .other("settings such as model.path: DIRECTORY"), .none("the file's own settings"),
        "Settings that replace those of the job's or the suite's file.")

    package static let stage: [JobKey] = [
        stageName,
        JobKey("job", .text(4096), .none("a command or a suite instead"), "A job file, beside the pipeline's."),
        stageSettings,
        JobKey(
            "run", .list(.text(4096), 256), .none("a job or a suite instead"),
            "A command of this program, run in the stage's directory."),
        JobKey(
            "gate", .other("figures with bounds, such as pass@1: {min: 0.3}"), .none("no gate"),
            "Bounds of figures of the last line of metrics.jsonl; outside of them the pipeline stops."),
        JobKey(
            "show", .list(.text(128), 64), .none("none"), "Figures for the table of stages."),
    ]

    package static let suiteStage: [JobKey] = [
        stageName, JobKey("suite", .text(4096), .required, "A suite's file, whose stages are called after this one."),
        stageSettings,
    ]

    package static let gate: [JobKey] = [
        JobKey("min", .number(.closed(-1e30, 1e30)), .none("no bound"), "The figure's least value."),
        JobKey("max", .number(.closed(-1e30, 1e30)), .none("no bound"), "The figure's greatest value."),
    ]

    package static let report: [JobKey] = {
        let rows = KeyType.other("lists")
        return [
            JobKey("table", .text(4096), .none("another kind of section"), "Title of a table."),
            JobKey(
                "columns", rows, .depends("a table needs them"), "Of a table: [title, suffix of the stage, figure]."),
            JobKey("beside", .list(.text(4096), 256), .none("none"), "Of a table: titles of columns of texts."),
            JobKey(
                "rows", rows, .depends("tables and claims need them"),
                "Of a table: [title, stage, texts of beside]. Of claims: [text, the original's figure, STAGE:FIGURE, one of "
                    + "> >= < <=, STAGE:FIGURE or number]."),
            JobKey(
                "curve", .text(4096), .none("another kind of section"), "Title of a curve over a number of each stage."),
            JobKey("axis", .text(4096), .none("no title"), "Of a curve: title of its x axis."),
            JobKey("figure", .text(4096), .depends("a curve needs it"), "Of a curve: its figure."),
            JobKey("points", rows, .depends("a curve needs them"), "Of a curve: [x, stage]."),
            JobKey(
                "groups", .text(4096), .none("another kind of section"),
                "Title of a table of every figure whose name begins with prefix."),
            JobKey("prefix", .text(4096), .depends("groups need it"), "Of groups: such as language/."),
            JobKey("training", .text(4096), .none("another kind of section"), "Title of curves of training stages."),
            JobKey(
                "stages", rows, .depends("groups and training need them"),
                "Of groups: [title, stage]. Of training: names of stages."),
            JobKey("figures", .list(.text(4096), 256), .depends("training needs them"), "Of training: its figures."),
            JobKey(
                "claims", .text(4096), .none("another kind of section"),
                "Title of a table of claims beside what was seen."),
        ]
    }()

    // MARK: - Suites

    private static let modes = KeyType.list(
        .choice([
            .init(name: "thinking", sentence: "thinking on, preset thinking"),
            .init(name: "non_thinking", sentence: "thinking off, preset non_thinking"),
        ]), 2)
    private static let rowPrompt = JobKey(
        "prompt", .text(65_536), .none("the format's"), "What the model is asked, with {question}.")
    private static let rowSamples = JobKey(
        "samples", .integer(1...4096), .value(.integer(1)), "Responses to each question.")
    private static let rowSampling = JobKey(
        "sampling", .section(sampling), .none("the mode's preset"), "How tokens are drawn.")

    package static let mode: [JobKey] = [rowSampling, rowPrompt, rowSamples]

    package static let row: [JobKey] = [
        JobKey("name", .text(64), .required, "What the row is called."),
        JobKey(
            "data", .section(rowData, short: "path"), .required,
            "Its questions: a file of rows, or the folder of a data set, beside the suite's file."),
        JobKey(
            "format", .text(64), .value(.string("plain")),
            "Form of the rows: plain, gsm8k, math, math500, aime, mmlu, mmlu_pro, gpqa, ifeval, bfcl, zebralogic, belebele, "
                + "ruler, livecodebench."),
        rowPrompt, rowSamples,
        JobKey("share", .number(.above(0, upTo: 1)), .none("all rows"), "Share of the rows, drawn by seed."),
        JobKey("limit", .integer(1...100_000_000), .none("all rows"), "Rows at most."),
        JobKey("seed", .integer(0...Int.max), .value(.integer(0)), "Of the draw."),
        JobKey("by", .text(128), .none("no groups"), "Column whose values are groups with scores of their own."),
        JobKey(
            "families", .other("families with lists of groups, such as romance: [es, fr]"), .none("none"),
            "Groups of by put together."),
        JobKey(
            "reward", .oneOrMany(.section(reward, short: "name"), .section(reward, short: "name"), 16),
            .none("the format's"), "What judges the responses."),
        JobKey("at_least", .number(.closed(-1e30, 1e30)), .none("1"), "Reward from which a response counts as right."),
        JobKey("modes", modes, .none("the suite's"), "Modes of this row."),
        JobKey(
            "budgets", .list(.integer(1...1_048_576), 64), .none("none"), "Thinking budgets, each one more run.",
            unit: "tokens"),
        JobKey("stop_text", .text(4096), .none("the text of Qwen's documentation"), "Ends the thinking at a budget."),
        JobKey(
            "rank_choices", .boolean, .value(.boolean(false)),
            "Answers by the choices' log-probabilities instead of generation."),
        JobKey("environment", .section(environment), .none("no tools"), "Tools that the model may call."),
        rowSampling,
        JobKey("thinking", .section(mode), .none("the suite's"), "Values of the mode thinking."),
        JobKey("non_thinking", .section(mode), .none("the suite's"), "Values of the mode non_thinking."),
        JobKey("model", .section(model, short: "path"), .none("the suite's"), "A model of its own."),
    ]

    /// What a suite says of rows that do not say it.
    package static let rowDefaults = row.filter { $0.name != "name" && $0.name != "data" }
}
