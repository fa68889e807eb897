// SPDX-License-Identifier: Apache-2.0
//
// Asks judges, a model of the cluster through this worker's own engine or an endpoint over HTTP, and reward models. One
// that does not answer is a failure of the machinery: the response then has no reward, never a reward of 0.
internal import ClusterCore
internal import ClusterProtocol
internal import Crypto
internal import Foundation
internal import FoundationNetworking
internal import Qwen3
internal import RuntimeSupport
internal import SwiftProtobuf

/// Why there is no judgement, in one line.
struct JudgeFailure: Error {
    let description: String
}

/// Text of judges, each question asked once, and scalars of reward models.
final class JudgeClient: Sendable {
    /// Answers kept; the oldest go first.
    private static let cacheCountMax = 65_536
    private static let attemptCount = 3

    private struct Cache {
        var texts: [SHA256Digest: String] = [:]
        var order: [SHA256Digest] = []
    }

    private let cache = Locked(Cache())
    private let allowed: WireJudgingAbility
    private let engine: @Sendable (Consultation) -> Result<String, JudgeFailure>

    /// - Parameters:
    ///   - allowed: the hosts and variables that jobs may name.
    ///   - engine: asks a model of the cluster.
    init(allowed: WireJudgingAbility, engine: @escaping @Sendable (Consultation) -> Result<String, JudgeFailure>) {
        self.allowed = allowed
        self.engine = engine
    }

    /// The judge's text on one response.
    func ask(_ settings: WireJudgeSettings, question: String, reference: String, response: String) throws(JudgeFailure)
        -> String
    {
        let prompt = Self.filled(settings.prompt, ["question": question, "reference": reference, "response": response])
        let key = SHA256.hash(
            data: Data("\(settings.contentHash) \(settings.endpoint) \(settings.endpointModel)\u{0}\(prompt)".utf8))
        if let known = cache.withLock({ $0.texts[key] }) { return known }
        let text =
            settings.endpoint.isEmpty
            ? try engine(.judge(settings, prompt)).get() : try askEndpoint(settings, prompt)
        cache.withLock { cache in
            if cache.texts.updateValue(text, forKey: key) == nil { cache.order.append(key) }
            if cache.order.count > Self.cacheCountMax { cache.texts[cache.order.removeFirst()] = nil }
        }
        return text
    }

    /// A reward model's scalar for a response, as text that reads back to the same bits.
    ///
    /// - Parameter prompt: token ids, as the policy had them.
    func scalar(
        _ settings: WireRewardModelSettings, prompt: [Int32], response: String
    ) throws(JudgeFailure) -> String {
        try engine(.rewardModel(settings, prompt: prompt, response: response)).get()
    }

    /// Puts texts in the place of their names, once: what they bring is not looked at again.
    static func filled(_ template: String, _ values: [String: String]) -> String {
        var result = ""
        var rest = Substring(template)
        while let open = rest.firstIndex(of: "{") {
            result += rest[..<open]
            rest = rest[open...]
            if let close = rest.firstIndex(of: "}"), let value = values[String(rest[..<close].dropFirst())] {
                result += value
                rest = rest[rest.index(after: close)...]
            } else {
                result.append("{")
                rest = rest.dropFirst()
            }
        }
        return result + rest
    }

    // MARK: - Endpoints

    private struct Completion: Decodable {
        struct Choice: Decodable {
            struct Message: Decodable { let content: String? }
            let message: Message
        }
        let choices: [Choice]
    }

    private func askEndpoint(_ settings: WireJudgeSettings, _ prompt: String) throws(JudgeFailure) -> String {
        guard let url = URL(string: settings.endpoint + "/chat/completions"), let host = url.host else {
            throw JudgeFailure(description: "the judge's address '\(settings.endpoint)' is no URL")
        }
        // The coordinator has looked already; what leaves this host is decided here.
        let name = host.lowercased().trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
        let needs = WireJudgingNeeds.with {
            $0.judgeHost = "\(name):\(url.port ?? (url.scheme == "https" ? 443 : 80))"
            $0.judgeVariable = settings.keyVariable
        }
        if let problem = allowed.problem(needs) { throw JudgeFailure(description: "this worker: \(problem)") }
        var request = URLRequest(url: url, timeoutInterval: Double(settings.timeoutMilliseconds) / 1000)
        request.httpMethod = "POST"
        request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        if !settings.keyVariable.isEmpty {
            guard let key = ProcessInfo.processInfo.environment[settings.keyVariable] else {
                throw JudgeFailure(description: "the worker's environment has no \(settings.keyVariable) for the judge")
            }
            request.setValue("Bearer \(key)", forHTTPHeaderField: "Authorization")
        }
        let body: [String: Any] = [
            "model": settings.endpointModel, "temperature": 0, "max_tokens": Int(settings.maxNewTokens),
            "messages": [["role": "user", "content": prompt]],
        ]
        request.httpBody = try? JSONSerialization.data(withJSONObject: body, options: [.sortedKeys])
        var problem = ""
        var wait = 0.0
        for attempt in 0..<Self.attemptCount {
            if attempt > 0 { Thread.sleep(forTimeInterval: max(wait, 0.25 * Double(1 << attempt))) }
            wait = 0
            switch Self.post(request) {
            case .success(let (status, data, retryAfter)):
                guard status == 200 else {
                    problem = "status \(status)"
                    // A judge that says when to come back is asked then, if it is within one question's time.
                    wait = min(retryAfter ?? 0, request.timeoutInterval)
                    // What is wrong with the question stays wrong.
                    if (400..<500).contains(status), status != 408, status != 429 { break }
                    continue
                }
                guard
                    let text = (try? JSONDecoder().decode(Completion.self, from: data))?.choices.first?.message.content
                else {
                    problem = "no chat completion"
                    continue
                }
                return text
            case .failure(let failure):
                problem = failure.description
                continue
            }
            break
        }
        throw JudgeFailure(description: "the judge at \(settings.endpoint) does not answer: \(problem)")
    }

    private typealias Answer = Result<(status: Int, body: Data, retryAfter: Double?), JudgeFailure>

    /// Goes where it was sent and nowhere else: another host would get the key.
    private final class Straight: NSObject, URLSessionTaskDelegate {
        func urlSession(
            _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
            newRequest request: URLRequest, completionHandler: @escaping @Sendable (URLRequest?) -> Void
        ) { completionHandler(nil) }
    }

    private static let session = URLSession(configuration: .ephemeral, delegate: Straight(), delegateQueue: nil)

    private static func post(_ request: URLRequest) -> Answer {
        let answer = Locked<Answer?>(nil)
        let done = DispatchSemaphore(value: 0)
        let task = session.dataTask(with: request) { data, response, error in
            answer.withLock {
                if let response = response as? HTTPURLResponse {
                    let seconds = response.value(forHTTPHeaderField: "Retry-After").flatMap { Double($0) }
                    $0 = .success((response.statusCode, data ?? Data(), seconds.map { max(0, $0) }))
                } else {
                    $0 = .failure(JudgeFailure(description: error?.localizedDescription ?? "no answer"))
                }
            }
            done.signal()
        }
        task.resume()
        // The session's own limit is the first to strike.
        if done.wait(timeout: .now() + request.timeoutInterval + 5) == .timedOut { task.cancel() }
        return answer.withLock { $0 } ?? .failure(JudgeFailure(description: "no answer in time"))
    }
}
