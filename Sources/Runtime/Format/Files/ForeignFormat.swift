/// What a file is that was saved in the place of another, as a sentence; nil if nothing is recognised.
package func foreignFormat(_ start: ByteView) -> String? {
    let bytes = start.slice(offset: 0, count: min(start.count, 512)).array()
    if bytes.starts(with: "version https://git-lfs".utf8) {
        return "it is a Git LFS pointer to one. Fetch the file itself, for example by `git lfs pull`."
    }
    let text = bytes.drop { [0x20, 0x09, 0x0A, 0x0D, 0xEF, 0xBB, 0xBF].contains($0) }
        .prefix(16).map { $0 >= 0x41 && $0 <= 0x5A ? $0 | 0x20 : $0 }
    if ["<!doctype", "<html", "<?xml", "<head"].contains(where: { text.starts(with: $0.utf8) }) {
        return "it is an HTML page, saved in its place. Download the file itself."
    }
    if bytes.starts(with: [0x50, 0x4B, 0x03, 0x04]) {
        return "it is a ZIP archive, perhaps a PyTorch checkpoint. Save the model as safetensors first."
    }
    if bytes.starts(with: "GGUF".utf8) { return "it is a GGUF file. Start from the original checkpoint." }
    return nil
}
