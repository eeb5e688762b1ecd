package import LatheFormat

/// What a recipe means for one model: a format without open questions for each of its matrices.
struct RecipePlan {
    /// By the parameters' names. int4 has its group size, int8 and int4 say how zeros are stored.
    let formats: [String: TensorFormat]

    /// - Throws: where the recipe is wrong in itself, or an override means no matrix of the model.
    init(_ recipe: Recipe, for definition: ModelDefinition) throws(LatheError) {
        try recipe.check()
        var patterns: [TensorPattern] = []
        for override in recipe.overrides { patterns.append(try TensorPattern(override.pattern)) }
        let meant = try definition.matrices(matching: patterns, option: "--override")
        var unlayered = definition.embeddingTables
        if let head = definition.headParameter { unlayered.insert(head) }
        var formats: [String: TensorFormat] = [:]
        for source in definition.weights where source.role == .matrix {
            let isLayer = !unlayered.contains(source.name)
            let override = zip(recipe.overrides, meant).reversed().first { $1.contains(source.name) }?.0
            var format = override?.format ?? TensorFormat(isLayer ? recipe.weights : recipe.weights.ofTables)
            switch format.weights {
            case .float32: format.sparse = nil
            case .int8: format.sparse = format.sparse ?? (isLayer ? recipe.sparse : .off)
            case .int4:
                format.groupSize = format.groupSize ?? recipe.groupSize
                format.sparse = format.sparse ?? (isLayer ? recipe.sparse : .off)
            }
            formats[source.name] = format
        }
        self.formats = formats
    }
}

extension WeightFormats {
    /// What an embedding or a head is stored in where layers are stored in this.
    fileprivate var ofTables: WeightFormats { self == .int4 ? .int8 : self }
}

extension TensorFormat {
    /// How a dense matrix of this format lies in the file.
    var denseEncoding: WeightEncoding {
        switch weights {
        case .float32: .panels
        case .int8: .qc8w
        case .int4: .quantized(QuantizedPanels(groupSize: groupSize ?? Recipe.defaultGroupSize))
        }
    }
}

extension WeightEncoding {
    /// The encoding as an override would ask for it: `int8`, `int4:g64:sparse`, `f32`.
    package var formatName: String {
        guard let quantized else { return WeightFormats.float32.description }
        return TensorFormat(
            quantized.groupSize == nil ? .int8 : .int4, groupSize: quantized.groupSize,
            sparse: quantized.packedByteCount == nil ? nil : .on
        ).description
    }
}
