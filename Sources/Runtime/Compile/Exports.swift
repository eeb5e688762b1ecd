// `LatheError` is part of this module's interface: whoever imports it can name it.
@_exported public import LatheFormat
