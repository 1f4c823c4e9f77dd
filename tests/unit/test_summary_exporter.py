from tests.records import node
def test_x(): assert node()
