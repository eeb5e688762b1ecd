package import Lathe

/// What a service is made for. `ServicePlan` turns it into an engine's options.
package struct ServiceSettings: Sendable {
    /// How replies and `/v1/models` name the model.
    package var modelName: String
    /// Everything that the engine is told, but for sessions and their tokens.
    package var engine = EngineOptions()
    /// Sequences that run at once; nil: as many as memory holds, `ServicePlan.automaticSessions` at most.
    package var sessions: Int?
    /// Sequences that may wait for a session.
    package var queue = 64
    /// From a call's arrival to its end.
    package var timeout: Duration = .seconds(120)
    /// Tokens guessed ahead by every continuation (`GenerationOptions.promptLookup`).
    package var promptLookup = 0
    /// Events of a stream that may wait for their reader.
    package var eventBuffer = 1024

    package init(modelName: String) { self.modelName = modelName }
}
