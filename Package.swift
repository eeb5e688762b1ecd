// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target is built by the same strict rules; `unsafe` stands only in the files that docs/DESIGN.md lists.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .strictMemorySafety(),
]

let package = Package(
    name: "lathe",
    platforms: [.macOS(.v26)],
    products: [
        .library(name: "Lathe", targets: ["Lathe"]),
        .library(name: "LatheCompiler", targets: ["LatheCompiler"]),
        .executable(name: "lathe", targets: ["LatheCommand"]),
        .executable(name: "lathe-serve", targets: ["LatheServe"]),
        .executable(name: "lathe-yaml", targets: ["LatheYAML"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        .target(
            name: "CKernels",
            cSettings: [.define("NDEBUG", .when(configuration: .release))]
        ),
        .target(name: "LatheFormat", path: "Sources/Runtime/Format", swiftSettings: strict),
        .target(
            name: "LatheCompiler", dependencies: ["LatheFormat", "CKernels"],
            path: "Sources/Runtime/Compile", swiftSettings: strict),
        .target(
            name: "Lathe", dependencies: ["LatheFormat", "CKernels"],
            path: "Sources/Runtime/Execute", swiftSettings: strict),
        .target(
            name: "LatheWorkbench", dependencies: ["Lathe", "LatheCompiler", "LatheFormat"],
            path: "Sources/Tools/Workbench", swiftSettings: strict),
        .target(
            name: "LatheService",
            dependencies: ["Lathe", "LatheFormat", .product(name: "CoreMetrics", package: "swift-metrics")],
            path: "Sources/Tools/Service", swiftSettings: strict),
        .executableTarget(
            name: "LatheCommand",
            dependencies: [
                "Lathe", "LatheCompiler", "LatheFormat", "LatheService", "LatheWorkbench",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Sources/Tools/lathe", swiftSettings: strict),
        .executableTarget(
            name: "LatheServe",
            dependencies: [
                "LatheService", "Lathe", "LatheFormat",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            path: "Sources/Tools/lathe-serve", swiftSettings: strict),
        .executableTarget(
            name: "LatheYAML", dependencies: ["LatheFormat", .product(name: "Yams", package: "Yams")],
            path: "Sources/Tools/lathe-yaml", swiftSettings: strict),
        .target(name: "AMXEmulation", dependencies: ["CKernels"], path: "Tests/Support/AMXEmulation"),
        .target(
            name: "TestSupport", dependencies: ["LatheFormat"], path: "Tests/Support/TestSupport",
            swiftSettings: [.swiftLanguageMode(.v6), .enableUpcomingFeature("InternalImportsByDefault")]),
        .executableTarget(
            name: "AllocationProbe", dependencies: ["Lathe", "LatheCompiler", "LatheFormat"],
            path: "Tests/Support/AllocationProbe", swiftSettings: [.swiftLanguageMode(.v6)]),
        .testTarget(
            name: "CKernelsTests", dependencies: ["CKernels", "AMXEmulation", "TestSupport"],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .testTarget(
            name: "LatheFormatTests", dependencies: ["LatheFormat", "TestSupport"],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .testTarget(
            name: "LatheCompilerTests", dependencies: ["LatheCompiler", "Lathe", "LatheFormat"],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .testTarget(
            name: "LatheWorkbenchTests",
            dependencies: ["LatheWorkbench", "Lathe", "LatheCompiler", "LatheFormat", "TestSupport"],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .testTarget(
            name: "LatheServiceTests",
            dependencies: [
                "LatheService", "LatheWorkbench", "Lathe", "LatheCompiler", "LatheFormat",
                .product(name: "CoreMetrics", package: "swift-metrics"),
            ],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .testTarget(
            name: "LatheCommandTests", dependencies: ["LatheCommand", "LatheYAML", "LatheFormat", "TestSupport"],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .testTarget(
            name: "LatheServeTests",
            dependencies: [
                "LatheServe", "LatheService", "Lathe", "LatheCompiler", "LatheFormat", "LatheYAML", "TestSupport",
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .testTarget(
            name: "LatheTests",
            dependencies: [
                "Lathe", "LatheCompiler", "LatheFormat", "CKernels", "TestSupport", "AllocationProbe",
            ],
            swiftSettings: [.swiftLanguageMode(.v6)]),
    ]
)
