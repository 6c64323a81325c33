"""What all rooms of the kit stand on; it knows none of them.

errors        what ends a run that cannot begin
options       options that several commands have
engines       which engine a handle has
copies        copies of the checkout, and an extension for them that is built in another way
patches       patches, and how one is applied to a copy
items         items that can tell when they were damaged
history       what was put and got, and the verdict over it: a pure function
diary         what was done with leased items, and the verdict over it
logs          how workers write that history down so that it survives them
workers       the loops of producers and consumers
processes     starting, watching and killing processes, and seeing that nothing is left
rounds        survivors work, trouble comes over them, and they have to get on
dying         processes that die at a chosen step
guard_pages   mappings between pages that cannot be accessed
"""
