// SPDX-License-Identifier: Apache-2.0
import Foundation
import JobSpecification
import Testing

@testable import CoordinatorRuntime

/// What defaults derive from, read from files as hubs leave them.
@Suite("Facts of a checkpoint")
struct CheckpointFactsTests {
    private static let configuration = """
        {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128,
         "vocab_size": 512, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000,
         "tie_word_embeddings": true, "torch_dtype": "bfloat16", "hidden_act": "silu", "eos_token_id": 3}
        """

    /// Facts of a directory with these files.
    private func facts(_ files: [String: String]) throws -> CheckpointFacts? {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("apus-facts-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        for (name, text) in files {
            try text.write(to: directory.appendingPathComponent(name), atomically: true, encoding: .utf8)
        }
        return CheckpointFacts.look(at: directory.path)
    }

    @Test("shapes, sampling values and whether the template thinks")
    func whole() throws {
        let facts = try #require(
            try facts([
                "config.json": Self.configuration,
                "generation_config.json":
                    #"{"do_sample": true, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.01, "repetition_penalty": 1.05}"#,
                "tokenizer_config.json": ##"{"chat_template": "{% for m in messages %}<think>{% endfor %}"}"##,
            ]))
        #expect(facts.contextLength == 2048)
        #expect(facts.cacheElementsPerToken == 2 * 2 * 2 * 16)
        #expect(facts.parameterCount > 512 * 64)
        #expect(facts.expertParameterCount == 0 && facts.expertRowBytesPerToken.isEmpty)
        #expect(facts.thinks)
        #expect(
            facts.sampling == [
                "temperature": .number(0.6), "top_p": .number(0.95), "top_k": .integer(20), "min_p": .number(0.01),
                "repetition_penalty": .number(1.05),
            ])
    }

    @Test(
        "greedy configurations give no sampling values; a template beside tokenizer_config.json counts; added tokens do not"
    )
    func others() throws {
        let greedy = try facts([
            "config.json": Self.configuration, "generation_config.json": #"{"do_sample": false, "temperature": 0.6}"#,
            "tokenizer_config.json":
                ##"{"added_tokens_decoder": {"5": {"content": "<think>"}}, "chat_template": "{{ x }}"}"##,
        ])
        #expect(greedy?.sampling == [:])
        #expect(greedy?.thinks == false)
        let beside = try facts([
            "config.json": Self.configuration, "chat_template.jinja": "<think>",
            "tokenizer_config.json": #"{"chat_template": "{{ x }}"}"#,
        ])
        #expect(beside?.thinks == true)
        let named = try facts([
            "config.json": Self.configuration,
            "tokenizer_config.json":
                #"{"chat_template": [{"name": "tool_use", "template": "<think>"}, {"name": "default", "template": "{{ x }}"}]}"#,
        ])
        #expect(named?.thinks == false)
    }

    @Test("what is no checkpoint has no facts")
    func none() throws {
        #expect(try facts([:]) == nil)
        #expect(try facts(["config.json": "{"]) == nil)
        #expect(CheckpointFacts.look(at: "/nowhere/at/all") == nil)
    }
}
