/// Of the package: what `--version` prints and the server's description says.
package let latheVersion = "0.1.0"
