import Lathe
