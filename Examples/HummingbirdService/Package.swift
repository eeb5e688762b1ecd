// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "HummingbirdService",
    platforms: [.macOS(.v26)],
    dependencies: [
        .package(name: "lathe", path: "../.."),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
    ],
    targets: [
        .executableTarget(
            name: "HummingbirdService",
            dependencies: [
                .product(name: "Lathe", package: "lathe"),
                .product(name: "Hummingbird", package: "hummingbird"),
            ])
    ]
)
