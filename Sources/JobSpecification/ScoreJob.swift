// SPDX-License-Identifier: Apache-2.0

/// `kind: score`: log-probabilities of given tokens under one model.
package struct ScoreJob: Equatable, Sendable {
    package let name: String
    package let model: ModelSection
    package let data: DataSection
    package let chatTemplate: ChatTemplateSection
    package let outputs: TeacherOutputs
    /// Temperature by which logits are divided before the softmax.
    package let temperature: Double
    package let policyVersion: Int
    package let resources: ResourcesSection
    /// Directory of the run.
    package let output: String

    init(_ fields: YAMLFields) throws(JobError) {
        name = try fields.required("name").jobName()
        model = try ModelSection(fields.required("model"))
        data = try DataSection(fields.required("data"))
        chatTemplate = try ChatTemplateSection(fields, thinking: .default)
        outputs = if let reader = fields["outputs"] { try TeacherOutputs(reader) } else { .sampled }
        temperature = try fields.number("temperature")
        policyVersion = try fields.integer("policy_version")
        resources = try ResourcesSection(fields.section("resources"))
        output = try fields.required("output").filePath()
    }

    /// Every setting, defaults included.
    package var resolved: ResolvedValue {
        .section([
            "kind": .string("score"), "name": .string(name), "model": model.resolved, "data": data.resolved,
            "outputs": outputs.resolved, "temperature": .number(temperature),
            "chat_template": chatTemplate.path.map { .string($0) },
            "chat_template_kwargs": chatTemplate.resolvedArguments,
            "chat_template_date": chatTemplate.date.map { .string($0) },
            "policy_version": .integer(policyVersion), "resources": resources.resolved,
            "output": .string(output),
        ])
    }
}
