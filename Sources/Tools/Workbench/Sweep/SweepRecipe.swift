public import LatheCompiler
public import LatheFormat

/// One way to make a checkpoint small: what is pruned, then how the rest is stored.
public struct SweepRecipe: Sendable {
    public let name: String
    /// nil: nothing is pruned.
    public let pruning: PruningOptions?
    public let recipe: Recipe

    /// Whether any step looks at a text.
    public var needsCalibration: Bool { recipe.needsCalibration || pruning?.criterion == .wanda }

    /// - Parameter name: nil: one that says what it does.
    package init(name: String?, pruning: PruningOptions?, recipe: Recipe) {
        var recipe = recipe
        // Of no meaning there, so that it makes no second recipe of the same.
        if recipe.weights != .int4 && !recipe.overrides.contains(where: { $0.format.weights == .int4 }) {
            recipe.groupSize = Recipe.defaultGroupSize
        }
        self.pruning = pruning
        self.recipe = recipe
        self.name = name ?? Self.name(pruning, recipe)
    }

    /// `int4 g64 gptq wanda 50 %`: what differs from the defaults.
    private static func name(_ pruning: PruningOptions?, _ recipe: Recipe) -> String {
        var words = [recipe.weights.description]
        if recipe.weights == .int4 { words.append("g\(recipe.groupSize)") }
        if recipe.method != .roundToNearest { words.append(recipe.method.rawValue) }
        if let smooth = recipe.smooth { words.append("smooth \(smooth)") }
        if recipe.correctsBias { words.append("bias") }
        if recipe.headActivationBits != Recipe().headActivationBits { words.append("head\(recipe.headActivationBits)") }
        words += recipe.overrides.map { "\($0.pattern)=\($0.format.description)" }
        if let pruning {
            words.append(pruning.criterion.rawValue)
            if let scope = pruning.scope { words.append(scope.rawValue) }
            if case .group = pruning.pattern { words.append(pruning.pattern.description) }
            if let sparsity = pruning.sparsity { words.append("\((sparsity * 100).rounded(to: 0)) %") }
            if pruning.balancesPairs { words.append("balanced") }
            words += pruning.excluded.map { "without \($0)" }
        }
        if recipe.sparse != .auto { words.append(recipe.sparse == .on ? "sparse" : "dense") }
        return words.joined(separator: " ")
    }

    /// The recipe in full. Two that differ in `name` alone are one.
    package func json(storage: Bool = true) -> JSON {
        var members = recipe.members
        // Stored sparse or dense, the weights are the same.
        if !storage { members.removeAll { $0.0 == "sparse" } }
        if let pruning {
            let scope: JSON = pruning.scope.map { .string($0.rawValue) } ?? .null
            let sparsity: JSON = pruning.sparsity.map { JSON.number($0) } ?? .null
            members.append(
                (
                    "prune",
                    .object(
                        JSONObject([
                            ("criterion", .string(pruning.criterion.rawValue)), ("sparsity", sparsity),
                            ("scope", scope), ("pattern", .string(pruning.pattern.description)),
                            ("exclude", .array(pruning.excluded.map { .string($0) })),
                            ("include_embeddings", .bool(pruning.includesEmbeddings)),
                            ("balance_pairs", .bool(pruning.balancesPairs)),
                        ]))
                ))
        }
        return .object(JSONObject(members))
    }
}

/// The recipes of a sweep, as a YAML file lists them.
///
///     recipes:
///       - weights: [int8, int4]
///         group_size: [32, 64]
///         prune: {criterion: magnitude, sparsity: [0, 0.5], pattern: unstructured}
///         sparse: [auto, off]
///
/// An entry has the fields of a `.lathe` file's recipe (`weights`, `group_size`, `sparse`, `overrides`,
/// `head_activations`, `method`, `smooth`, `bias_correction`), a `name`, and `prune` with the options of `lathe prune`.
/// A field with a list of values stands for one recipe for each, and lists multiply. Sparsity 0 is no pruning.
public struct SweepRecipes: Sendable {
    public let recipes: [SweepRecipe]

    /// What `default` stands for.
    ///
    /// - Parameter calibrated: whether there is a text for the steps that look at one.
    public static func standard(calibrated: Bool) throws(LatheError) -> SweepRecipes {
        let shares: JSON = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
        var entries: [JSON] = [
            ["weights": "f32"],
            ["weights": "int8", "head_activations": [8, 16]],
            ["weights": "int4", "group_size": [32, 64, 128]],
            ["weights": "int8", "prune": ["criterion": "magnitude", "sparsity": shares]],
            ["weights": "int8", "sparse": "off", "prune": ["criterion": "magnitude", "sparsity": [0.5, 0.7]]],
            ["weights": "int8", "prune": ["criterion": "magnitude", "pattern": "2:4"]],
            [
                "weights": "int4",
                "prune": ["criterion": "magnitude", "sparsity": 0.5, "balance_pairs": [false, true]],
            ],
        ]
        if calibrated {
            entries += [
                ["weights": "int4", "group_size": [32, 64, 128], "method": "gptq"],
                ["weights": "int8", "prune": ["criterion": "wanda", "sparsity": shares]],
                ["weights": "int8", "prune": ["criterion": "wanda", "pattern": "2:4"]],
                ["weights": "int4", "prune": ["criterion": "wanda", "sparsity": 0.5, "balance_pairs": true]],
            ]
        }
        return try SweepRecipes(json: .array(entries), source: "the default recipes")
    }

    /// What `lathe fit` chooses from.
    public static func candidates(calibrated: Bool) throws(LatheError) -> SweepRecipes {
        let criterion: JSON = calibrated ? "wanda" : "magnitude"
        return try SweepRecipes(
            json: [
                ["weights": ["int8", "f32"]],
                ["weights": "int4", "group_size": [32, 64, 128], "method": calibrated ? ["rtn", "gptq"] : "rtn"],
                [
                    "weights": "int8",
                    "prune": ["criterion": criterion, "sparsity": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]],
                ],
                [
                    "weights": "int4",
                    "prune": ["criterion": criterion, "sparsity": [0.3, 0.5], "balance_pairs": true],
                ],
            ], source: "the candidates")
    }

    /// - Parameter json: what the YAML file says, as JSON.
    package init(json: JSON, source: String) throws(LatheError) {
        let entries: [JSON]
        if case .object(let object) = json {
            if let other = object.members.first(where: { $0.key != "recipes" }) {
                throw LatheError(
                    .invalidRequest, "\(quoted(source)): beside `recipes` there is nothing; \(quoted(other.key)) is.")
            }
            entries = try object.array("recipes", in: source)
        } else {
            entries = try json.array(at: "\(quoted(source)), which lists recipes,")
        }
        var recipes: [SweepRecipe] = []
        var seen: Set<JSON> = []
        for (index, entry) in entries.enumerated() {
            let place = "\(source), recipe \(index + 1)"
            for recipe in try Self.expand(try entry.object(at: place), place)
            where seen.insert(recipe.json()).inserted { recipes.append(recipe) }
        }
        guard !recipes.isEmpty else {
            throw LatheError(.invalidRequest, "\(quoted(source)) lists no recipe; begin with `- weights: int8`.")
        }
        self.recipes = recipes
    }

    /// These hold lists themselves.
    private static let lists: Set<String> = ["overrides", "exclude"]

    private static func expand(_ entry: JSONObject, _ place: String) throws(LatheError) -> [SweepRecipe] {
        let name = try entry.stringIfPresent("name", in: place)
        let pruning = try entry.objectIfPresent("prune", in: place)
        let recipes = products(entry.members.filter { $0.key != "name" && $0.key != "prune" })
        let prunings = pruning.map { products($0.members) } ?? [JSONObject()]
        var result: [SweepRecipe] = []
        for recipe in recipes {
            for options in prunings {
                let pruning = pruning == nil ? nil : try Self.pruning(options, "\(place), prune")
                let made = SweepRecipe(
                    name: nil, pruning: pruning,
                    recipe: try Recipe(json: .object(recipe), source: place))
                result.append(
                    SweepRecipe(
                        name: name.map { recipes.count * prunings.count == 1 ? $0 : "\($0): \(made.name)" },
                        pruning: made.pruning, recipe: made.recipe))
            }
        }
        return result
    }

    /// Every choice of one value for each member that has a list of them; the last member changes fastest.
    private static func products(_ members: [JSONObject.Member]) -> [JSONObject] {
        var result: [[(String, JSON)]] = [[]]
        for member in members {
            var values = [member.value]
            if case .array(let list) = member.value, !lists.contains(member.key) { values = list }
            result = result.flatMap { chosen in values.map { chosen + [(member.key, $0)] } }
        }
        return result.map { JSONObject($0) }
    }

    /// - Returns: nil where nothing is to be pruned.
    private static func pruning(_ object: JSONObject, _ place: String) throws(LatheError) -> PruningOptions? {
        let known = [
            "criterion", "sparsity", "scope", "pattern", "exclude", "include_embeddings", "balance_pairs",
        ]
        if let unknown = object.members.first(where: { !known.contains($0.key) }) {
            throw LatheError(
                .invalidRequest,
                "\(place): there is no field \(quoted(unknown.key)); there are \(known.joined(separator: ", ")).")
        }
        var options = PruningOptions()
        options.sparsity = try object.doubleIfPresent("sparsity", in: place)
        if let name = try object.stringIfPresent("criterion", in: place) {
            options.criterion = try choice(name, PruningOptions.Criterion.self, "\(place), criterion")
        }
        if let name = try object.stringIfPresent("scope", in: place) {
            options.scope = try choice(name, PruningOptions.Scope.self, "\(place), scope")
        }
        if let name = try object.stringIfPresent("pattern", in: place) { options.pattern = try .init(named: name) }
        for item in try object.arrayIfPresent("exclude", in: place) ?? [] {
            options.excluded.append(try item.string(at: "\(place), exclude"))
        }
        options.includesEmbeddings = try object.boolIfPresent("include_embeddings", in: place) ?? false
        options.balancesPairs = try object.boolIfPresent("balance_pairs", in: place) ?? false
        if options.sparsity == 0, options.pattern == .unstructured { return nil }
        if let sparsity = options.sparsity, !(sparsity >= 0 && sparsity < 1) {
            throw LatheError(
                .invalidRequest, "\(place): the sparsity is \(sparsity); it must be at least 0 and below 1.")
        }
        if options.sparsity == nil, options.pattern == .unstructured {
            throw LatheError(.invalidRequest, "\(place): the sparsity is missing; 0.5 makes half of the weights zero.")
        }
        return options
    }

    private static func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, _ type: Choice.Type, _ place: String
    ) throws(LatheError) -> Choice {
        guard let choice = Choice(rawValue: name) else {
            throw LatheError(
                .invalidRequest,
                "\(place) is \(quoted(name)); it can be \(Choice.allCases.map(\.rawValue).joined(separator: ", ")).")
        }
        return choice
    }
}
