package enum OpenAPI { package static let document: [UInt8] = [] }
