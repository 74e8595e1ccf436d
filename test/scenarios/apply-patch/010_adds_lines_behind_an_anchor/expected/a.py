class A:
    def run(self):
        return 1

class B:
    size = 0
    def run(self):
        return 1
