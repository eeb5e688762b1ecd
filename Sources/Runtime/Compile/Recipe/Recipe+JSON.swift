package import LatheFormat

// The recipe as it stands in a file's metadata and in the descriptions that a sweep reads. Equal recipes give equal bytes.

extension Recipe {
    private enum Key: String, CaseIterable {
        case weights
        case groupSize = "group_size"
        case sparse, overrides
        case headActivationBits = "head_activations"
        case method, smooth
        case correctsBias = "bias_correction"
        case calibration
        // What came of it: `RecipeOutcome` writes them.
        case source = "source_sha256"
        case pruning
        case tensors
    }

    /// Members in this order; what is not done is left out.
    package var members: [(String, JSON)] {
        var members: [(String, JSON)] = [
            (Key.weights.rawValue, .string(weights.description)), (Key.groupSize.rawValue, .number(groupSize)),
            (Key.sparse.rawValue, .string(sparse.rawValue)),
            (
                Key.overrides.rawValue,
                .array(
                    overrides.map { ["pattern": .string($0.pattern), "format": .string($0.format.description)] })
            ),
            (Key.headActivationBits.rawValue, .number(headActivationBits)),
            (Key.method.rawValue, .string(method.rawValue)),
        ]
        if let smooth { members.append((Key.smooth.rawValue, .number(smooth))) }
        if correctsBias { members.append((Key.correctsBias.rawValue, true)) }
        if let calibration {
            members.append(
                (
                    Key.calibration.rawValue,
                    [
                        "sha256": .string(calibration.sha256), "windows": .number(calibration.windows),
                        "length": .number(calibration.length),
                    ]
                ))
        }
        return members
    }

    package var json: JSON { .object(JSONObject(members)) }

    /// What is absent has its default; an unknown field is an error.
    /// - Parameter source: where the object stands, for messages.
    package init(json: JSON, source: String) throws(LatheError) {
        let object = try json.object(at: source)
        let known = Key.allCases.map(\.rawValue)
        if let unknown = object.members.first(where: { !known.contains($0.key) }) {
            throw LatheError(
                .invalidRequest,
                "\(source): there is no field \(quoted(unknown.key)) in a recipe; there are "
                    + "\(known.joined(separator: ", ")).")
        }
        self.init()
        if let name = try object.stringIfPresent(Key.weights.rawValue, in: source) {
            weights = try Self.choice(name, WeightFormats.self, source, .weights)
        }
        groupSize = try object.intIfPresent(Key.groupSize.rawValue, in: source) ?? groupSize
        if let name = try object.stringIfPresent(Key.sparse.rawValue, in: source) {
            sparse = try Self.choice(name, SparseStorage.self, source, .sparse)
        }
        for item in try object.arrayIfPresent(Key.overrides.rawValue, in: source) ?? [] {
            let place = "\(source), overrides"
            let item = try item.object(at: place)
            overrides.append(
                Override(
                    pattern: try item.string("pattern", in: place),
                    format: try TensorFormat(parsing: try item.string("format", in: place))))
        }
        headActivationBits =
            try object.intIfPresent(Key.headActivationBits.rawValue, in: source) ?? headActivationBits
        if let name = try object.stringIfPresent(Key.method.rawValue, in: source) {
            method = try Self.choice(name, Method.self, source, .method)
        }
        smooth = try object.doubleIfPresent(Key.smooth.rawValue, in: source)
        correctsBias = try object.boolIfPresent(Key.correctsBias.rawValue, in: source) ?? false
        if let item = try object.objectIfPresent(Key.calibration.rawValue, in: source) {
            let place = "\(source), calibration"
            calibration = Calibration(
                sha256: try item.string("sha256", in: place), windows: try item.int("windows", in: place),
                length: try item.int("length", in: place))
        }
        try check()
    }

    private static func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, _ type: Choice.Type, _ source: String, _ key: Key
    ) throws(LatheError) -> Choice {
        guard let choice = Choice(rawValue: name) else {
            let choices = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw LatheError(
                .invalidRequest,
                "\(source): the field \(quoted(key.rawValue)) is \(quoted(name)); it can be \(choices).")
        }
        return choice
    }

    /// The recipe with what came of it, as it stands in a file.
    /// - Parameters:
    ///   - sourceHash: of the checkpoint's weight files; nil for a file in memory alone.
    ///   - pruning: how the checkpoint was pruned before.
    func json(sourceHash: String?, pruning: JSON?, tensors: [CompilationReport.Tensor]) -> JSON {
        var members = members
        if let sourceHash { members.append((Key.source.rawValue, .string(sourceHash))) }
        if let pruning { members.append((Key.pruning.rawValue, pruning)) }
        members.append((Key.tensors.rawValue, .array(tensors.filter { $0.shape.count == 2 }.map(\.json))))
        return .object(JSONObject(members))
    }
}

extension CompilationReport.Tensor {
    fileprivate var json: JSON {
        [
            "name": .string(name), "format": .string(format), "sparsity": .number(sparsity),
            "relative_error": .number(relativeError),
        ]
    }
}
