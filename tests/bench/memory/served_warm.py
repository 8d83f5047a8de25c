"""The application as qslots serves it if it has worked once in the mold: what its libraries then made is shared."""

import application
import served_by_qslots

for n in range(20):
    application.compute(n)

work = served_by_qslots.work
